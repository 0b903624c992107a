"""Paragraphs of facts about invented towns, people, animals and plants, and questions on them.

Names are built of syllables. A name's SHA-256 decides whether it may occur in training or in tests,
so nobody has seen a tested name before.
"""

import hashlib
from dataclasses import dataclass

from .stories import JOBS, others, pick

STARTS = "Bal Cor Dra El Fen Gal Hol Ir Kal Lum Mor Nar Os Pel Quin Ros Sel Tor Ul Var Wen Yl Zan Ash Bri".split()
MIDDLES = "a e i o u an en ar or ir el al um".split()
ENDS = "dor mere fell wick stad nor via lin gard ton ra mo thal ven sa rick by".split()
PRODUCTS = "glass|honey|cheese|clocks|carpets|pottery|salt|paper|bells|knives|silk|pears".split("|")
MARKS = "a bridge with {n} arches|a tower with {n} bells|a gate with {n} lions|a square with {n} fountains|a wall with {n} doors".split("|")
KINDS = "bird|fish|frog|lizard|deer|beetle|snake|bear".split("|")
HABITATS = "swamps|caves|high meadows|dry plains|cold lakes|pine forests|sand dunes|reed beds".split("|")
FOODS = "moss|berries|small snails|roots|pine nuts|worms|fallen fruit|water plants".split("|")
SLEEPS = "hollow trees|deep holes|warm sand|old nests|tall grass|cracks in the rock".split("|")
MONTHS = "January February March April May June July August September October November December".split()
SMELLS = "pepper|honey|smoke|lemon|fresh bread|rain|mint|old wood".split("|")
PARTS = "leaves|roots|seeds|bark|petals".split("|")
ILLS = "fever|headache|cough|toothache|bad dreams|sore feet|hiccups".split("|")
WORKS = "water clock|steam plough|glass harp|folding boat|star map|paper lamp|wind organ|salt press|snow sledge|stone oven".split("|")
COLOURS = "red blue green yellow white black brown grey purple orange".split()
NUMBERS = "two three four five six seven eight nine ten eleven twelve".split()


@dataclass
class Fact:
    text: str
    questions: list  # (question, answer, wrong answers)


def is_test_name(name):
    return hashlib.sha256(name.encode()).digest()[0] < 26  # about one in ten


def name(random, test):
    while True:
        made = pick(random, STARTS) + (pick(random, MIDDLES) if random.random() < 0.7 else "") + pick(random, ENDS)
        if is_test_name(made) == test:
            return made


def names(random, test, count):
    made = []
    while len(made) < count:
        new = name(random, test)
        if new not in made:
            made.append(new)
    return made


def year(random):
    return str(int(random.integers(1100, 1950)))


def town(random, test):
    t, river, founder, *rest = names(random, test, 6)
    job, product, when, n = pick(random, JOBS), pick(random, PRODUCTS), year(random), pick(random, NUMBERS)
    mark = pick(random, MARKS).format(n=n)
    count = pick(random, NUMBERS)
    text = pick(random, [
        f"{t} is a town on the river {river}. It was founded in {when} by the {job} {founder}. The people of {t} make {product}. It has {mark}.",
        f"On the river {river} lies the town of {t}, which is known for its {product}. The {job} {founder} founded it in {when}. There is {mark}.",
        f"The town of {t} was founded by {founder}, a {job}, in {when}. It stands on the river {river}. {t} sells {product} and has {mark}.",
    ])
    part = mark.split(" ")[-1]
    return Fact(text, [
        (f"Who founded {t}?", founder, [river, *rest[:2]]),
        (f"On which river is {t}?", river, [founder, *rest[:2]]),
        (f"When was {t} founded?", when, [year(random) for _ in range(3)]),
        (f"What is made in {t}?", product, others(random, PRODUCTS, product)),
        (f"How many {part} does {t} have?", n, others(random, NUMBERS, n)),
        (f"Which town did the {job} {founder} found?", t, rest),
        (f"Which town on the river {river} makes {product}?", t, rest),
    ])


def animal(random, test):
    a, region, nick, *rest = names(random, test, 6)
    colour, kind, habitat = pick(random, COLOURS), pick(random, KINDS), pick(random, HABITATS)
    food, sleep, n = pick(random, FOODS), pick(random, SLEEPS), pick(random, NUMBERS)
    text = pick(random, [
        f"The {a} is a {colour} {kind} that lives in the {habitat} of {region}. It eats {food} and sleeps in {sleep}. It grows {n} feet long.",
        f"In the {habitat} of {region} lives the {a}, a {colour} {kind}. Its food is {food}, its bed is in {sleep}, and it lives for {n} years.",
        f"The {a}, also called {nick}, is a {kind} of {colour} colour. It is found in the {habitat} of {region}, sleeps in {sleep} and feeds on {food}.",
    ])
    made = [
        (f"What does the {a} eat?", food, others(random, FOODS, food)),
        (f"Where does the {a} sleep?", "in " + sleep, ["in " + s for s in others(random, SLEEPS, sleep)]),
        (f"What colour is the {a}?", colour, others(random, COLOURS, colour)),
        (f"What kind of animal is the {a}?", kind, others(random, KINDS, kind)),
        (f"In which land does the {a} live?", region, rest),
        (f"Which {kind} lives in the {habitat} of {region}?", a, rest),
        (f"Which animal of {region} eats {food}?", a, rest),
    ]
    return Fact(text, made)


def inventor(random, test):
    first, last, home, *rest = names(random, test, 6)
    who, job, work = f"{first} {last}", pick(random, JOBS), pick(random, WORKS)
    born = int(random.integers(1100, 1880))
    age = int(random.integers(20, 50))
    made_in, died = str(born + age), str(born + age + int(random.integers(5, 40)))
    text = pick(random, [
        f"{who} was a {job} from {home}. Born in {born}, {who} built the first {work} in {made_in} and died in {died}.",
        f"The first {work} was made in {made_in} by {who}, a {job} who was born in {born} in {home}. {who} died in {died}.",
        f"The {job} {who} was born in {home} in {born}. In {made_in} {who} invented the {work}; death came in {died}.",
    ])
    return Fact(text, [
        (f"Who invented the {work} in {made_in}?", who, [f"{r} {last}" for r in rest]),
        (f"What did {who} invent?", f"the {work}", ["the " + w for w in others(random, WORKS, work)]),
        (f"When was {who} born?", str(born), [made_in, died, year(random)]),
        (f"When did {who} die?", died, [made_in, str(born), year(random)]),
        (f"Where was {who} born?", home, rest),
        (f"Which {job} came from {home}?", who, [f"{r} {last}" for r in rest]),
    ])


def plant(random, test):
    p, valley, healer, *rest = names(random, test, 6)
    colour, month, smell = pick(random, COLOURS), pick(random, MONTHS), pick(random, SMELLS)
    part, ill = pick(random, PARTS), pick(random, ILLS)
    text = pick(random, [
        f"The {p} is a {colour} flower of the {valley} valley. It blooms in {month} and smells of {smell}. Its {part} help against {ill}.",
        f"In the {valley} valley grows the {p}, whose {colour} flowers open in {month}. It smells of {smell}; healers use its {part} against {ill}.",
        f"Against {ill} people take the {part} of the {p}, a plant with {colour} flowers from the {valley} valley. In {month} it smells of {smell}.",
    ])
    return Fact(text, [
        (f"When does the {p} bloom?", f"in {month}", ["in " + m for m in others(random, MONTHS, month)]),
        (f"What does the {p} smell of?", smell, others(random, SMELLS, smell)),
        (f"Which part of the {p} is used?", f"its {part}", ["its " + w for w in others(random, PARTS, part)]),
        (f"What is the {p} good against?", ill, others(random, ILLS, ill)),
        (f"Which plant of the {valley} valley helps against {ill}?", p, rest),
        (f"Which {colour} flower grows in the {valley} valley?", p, rest),
    ])


WRITERS = (town, animal, inventor, plant)


def fact(random, test=False):
    return pick(random, WRITERS)(random, test)
