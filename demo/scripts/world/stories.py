"""Short stories about two people, with a summary, questions, a topic and a mood.

A story is written from a record (who, where, what they wanted, what came of it), so every answer is
known. It always holds a second person doing something of another topic and feeling something else:
whoever answers from the first word that fits is wrong.
"""

from dataclasses import dataclass

WOMEN = "Ada Bela Clara Dora Edda Fenja Greta Hanna Ilse Jana Kira Lotte Mira Nora Olga Petra Runa Sina Tilda Vera".split()
MEN = "Anton Bruno Carl David Emil Frido Gustav Hugo Ivo Jonas Kaspar Linus Max Nils Oskar Paul Robin Samuel Theo Viktor".split()
PLACES = (
    "the harbour|the old mill|the green valley|the north hills|the river bank|the market square|the castle|the lighthouse|"
    "the village|the forest house|the small island|the station"
).split("|")
JOBS = "baker tailor farmer doctor teacher painter sailor smith hunter miller singer guard".split()
ADJECTIVES = "young old kind quiet tall clever shy cheerful proud patient".split()
COLOURS = "red blue green yellow white black brown grey".split()
NUMBERS = "two three four five six seven eight nine ten eleven twelve thirteen fourteen".split()
THINGS = "apples|baskets|bottles|books|ropes|boxes|lamps|candles|stones|feathers|buttons|shells|ribbons|spoons".split("|")
DAYS = "One Monday|One morning|Last winter|One evening|In early spring|On a windy day|One summer|After the harvest".split("|")

# topic: what somebody can want to do, and what can go wrong with it.
TOPICS = {
    "cooking": (
        "bake a plum cake|cook a fish soup|boil eggs for the guests|roast a goose|make bread with seeds|fry mushrooms",
        "the oven went cold|the pot had a hole|the flour was wet|the salt was gone|the fire would not burn",
    ),
    "music": (
        "play the violin|learn a new song|tune the piano|sing in the choir|build a wooden flute|beat the big drum",
        "a string broke|the notes were lost|nobody kept the rhythm|the flute had a crack|the hall was too loud",
    ),
    "sailing": (
        "sail around the bay|mend the torn sail|row to the other shore|steer the ferry|catch the morning wind|paint the hull",
        "the mast fell|the fog was thick|the rudder was stuck|the tide went out|the boat took in water",
    ),
    "gardening": (
        "plant young beans|water the roses|dig a bed for carrots|cut the hedge|pick ripe cherries|sow grass",
        "the soil was frozen|snails ate the leaves|the well was dry|the spade broke|weeds grew everywhere",
    ),
    "building": (
        "build a stone wall|repair the roof|lay a wooden floor|raise a new barn|fix the old bridge|saw long boards",
        "the ladder slipped|the nails were bent|a beam was too short|the bricks were soft|the saw was blunt",
    ),
    "school": (
        "learn to read|solve the long sum|write a neat letter|draw a map of the world|study the stars|spell hard words",
        "the ink ran dry|the page was torn|the lesson was too long|the chalk was gone|the numbers made no sense",
    ),
    "trade": (
        "sell woollen coats|buy cheap silk|weigh the silver coins|count the money|open a small shop|bargain for a horse",
        "the scales were false|the price was too high|no customer came|the purse had a hole|the cart lost a wheel",
    ),
    "animals": (
        "feed the lambs|ride a wild pony|comb the shaggy dog|find the lost cat|milk the goats|teach the parrot",
        "the gate stood open|the pony ran away|the hay was mouldy|a wolf was near|the parrot flew off",
    ),
}
# mood: how it shows without being named.
MOODS = {
    "happy": "could not stop smiling|danced all the way home|whistled a merry tune|laughed out loud|hugged everyone",
    "sad": "wiped away the tears|sat alone and sighed|had a heavy heart|wept into the pillow|did not want to eat",
    "angry": "slammed the door|stamped on the ground|shouted at the wall|threw down the gloves|clenched both fists",
    "afraid": "trembled all night|hid under the blanket|turned pale|dared not look back|held on tight with cold hands",
    "tired": "fell asleep at the table|yawned again and again|could hardly stand|went to bed at noon|rubbed both eyes",
    "proud": "told everyone about it|stood up very straight|showed it to the whole street|put it above the door|walked with a raised head",
}
TOPIC_NAMES, MOOD_NAMES = list(TOPICS), list(MOODS)


@dataclass
class Person:
    name: str
    woman: bool
    job: str
    place: str
    topic: str
    goal: str
    problem: str
    number: int
    colour: str
    thing: str
    mood: str
    sign: str

    @property
    def he(self):
        return "she" if self.woman else "he"


@dataclass
class Story:
    text: str
    summary: str
    topic: str
    mood: str
    questions: list  # (question, answer, wrong answers)


def pick(random, items):
    return items[random.integers(len(items))]


def others(random, items, right, count=3):
    """`count` of the items that are not the right one."""
    left = [item for item in items if item != right]
    return [left[i] for i in random.permutation(len(left))[:count]]


def person(random, woman, thing, avoid=None):
    """Somebody; nothing that a question can ask about is the same as in `avoid`."""
    differs = lambda items, key: pick(random, [i for i in items if avoid is None or i != getattr(avoid, key)])
    topic = differs(TOPIC_NAMES, "topic")
    goals, problems = (part.split("|") for part in TOPICS[topic])
    mood = differs(MOOD_NAMES, "mood")
    return Person(
        name=differs(WOMEN if woman else MEN, "name"),
        woman=woman,
        job=differs(JOBS, "job"),
        place=differs(PLACES, "place"),
        topic=topic,
        goal=pick(random, goals),
        problem=pick(random, problems),
        number=int(differs(range(2, 8), "number")),
        colour=differs(COLOURS, "colour"),
        thing=thing,
        mood=mood,
        sign=pick(random, MOODS[mood].split("|")),
    )


def number_word(value):
    return NUMBERS[value - 2]


def sentences(random, a, b):
    """The story's sentences; a is the person it is about."""
    adjective, day = pick(random, ADJECTIVES), pick(random, DAYS)
    n, m = number_word(a.number), number_word(b.number)
    article = "an" if adjective[0] in "aeiou" else "a"
    start = pick(random, [
        f"{a.name} was {article} {adjective} {a.job} who lived near {a.place}.",
        f"Near {a.place} lived {article} {adjective} {a.job} called {a.name}.",
        f"{a.name}, {article} {adjective} {a.job}, had a house near {a.place}.",
    ])
    goal = pick(random, [
        f"{day}, {a.name} wanted to {a.goal}.",
        f"{day}, {a.he} decided to {a.goal}.",
        f"{day}, {a.he} set out to {a.goal}.",
    ])
    own = pick(random, [
        f"For this {a.he} brought {n} {a.colour} {a.thing}.",
        f"{a.name} had {n} {a.colour} {a.thing} for it.",
        f"{a.he.capitalize()} took {n} {a.colour} {a.thing} along.",
    ])
    trouble = pick(random, [f"But {a.problem}.", f"Then {a.problem}.", f"Sadly, {a.problem}."])
    second = pick(random, [
        f"At {b.place} the {b.job} {b.name} tried to {b.goal}, and there {b.problem}.",
        f"Meanwhile {b.name}, a {b.job} from {b.place}, began to {b.goal}, until {b.problem}.",
        f"A {b.job} from {b.place}, {b.name}, wished to {b.goal}, though {b.problem}.",
    ])
    gift = pick(random, [
        f"{b.name} owned {m} {b.colour} {b.thing}.",
        f"{m.capitalize()} {b.colour} {b.thing} belonged to {b.name}.",
        f"{b.name} carried {m} {b.colour} {b.thing}.",
    ])
    end = pick(random, [
        f"In the end {b.name} {b.sign}, but {a.name} {a.sign}.",
        f"In the end {a.name} {a.sign}, while {b.name} {b.sign}.",
        f"When it was over, {a.name} {a.sign} and {b.name} {b.sign}.",
    ])
    middle = [[goal, own, trouble], [second, gift]] if random.random() < 0.6 else [[second, gift], [goal, own, trouble]]
    return [start, *middle[0], *middle[1], end]


def summary(a):
    return f"{a.name}, a {a.job}, wanted to {a.goal}, but {a.problem}, and {a.he} felt {a.mood}."


def questions(random, a, b):
    """(question, answer, wrong answers) about both people."""
    p, q = (a, b) if random.random() < 0.5 else (b, a)
    wrong = lambda items, right, near: [near, *[w for w in others(random, items, right) if w != near][:2]]
    goals = [goal for goals, _ in TOPICS.values() for goal in goals.split("|")]
    same = a.thing == b.thing
    numbers = lambda right: others(random, NUMBERS, right)
    made = [
        (f"What did {p.name} want to do?", p.goal, wrong(goals, p.goal, q.goal)),
        (f"Where did {p.name} come from?", p.place, wrong(PLACES, p.place, q.place)),
        (f"What was {p.name}'s job?", p.job, wrong(JOBS, p.job, q.job)),
        (f"How did {p.name} feel in the end?", p.mood, wrong(MOOD_NAMES, p.mood, q.mood)),
        (f"Who wanted to {p.goal}?", p.name, wrong(WOMEN + MEN, p.name, q.name)),
        (f"Who had {p.colour} {p.thing}?", p.name, wrong(WOMEN + MEN, p.name, q.name)),
        (f"What colour were the {p.thing} of the {p.job}?", p.colour, wrong(COLOURS, p.colour, q.colour)),
        (f"How many {p.thing} did {p.name} have?", number_word(p.number), numbers(number_word(p.number))),
    ]
    if same:
        total = number_word(a.number + b.number)
        made.append((f"How many {a.thing} did they have together?", total, numbers(total)))
        most = p if p.number > q.number else q
        made.append((f"Who had more {a.thing}?", most.name, wrong(WOMEN + MEN, most.name, (q if most is p else p).name)))
    return made


def story(random):
    thing = pick(random, THINGS)
    a = person(random, bool(random.random() < 0.5), thing)
    b = person(random, bool(random.random() < 0.5), thing if random.random() < 0.7 else pick(random, THINGS), avoid=a)
    return Story(" ".join(sentences(random, a, b)), summary(a), a.topic, a.mood, questions(random, a, b))
