"""English sentences with their German translation, from one small grammar.

The grammar knows what makes German hard to get right word by word: gender and case of articles and
adjectives, the verb in second place, infinitives and participles at the end, the verb last after
`weil`, `dass` and `wenn`, and the dative of some verbs.
"""

from dataclasses import dataclass

from .stories import pick


@dataclass(frozen=True)
class Noun:
    english: str
    plural: str
    german: str
    gender: str  # m, f or n
    german_plural: str


def nouns(text):
    """Entries of English, German, gender and German plural; a fifth field is an irregular English plural."""
    made = []
    for entry in text.split("|"):
        english, german, gender, german_plural, *plural = entry.strip().split(" ")
        made.append(Noun(english, plural[0] if plural else english + "s", german, gender, german_plural))
    return made


PERSONS = nouns(
    "man Mann m Männer men|woman Frau f Frauen women|child Kind n Kinder children|girl Mädchen n Mädchen|teacher Lehrer m Lehrer|"
    "doctor Arzt m Ärzte|gardener Gärtner m Gärtner|baker Bäcker m Bäcker|painter Maler m Maler|sister Schwester f Schwestern|"
    "brother Bruder m Brüder|mother Mutter f Mütter|father Vater m Väter|friend Freund m Freunde|queen Königin f Königinnen|"
    "king König m Könige|smith Schmied m Schmiede|thief Dieb m Diebe thieves|captain Kapitän m Kapitäne|guest Gast m Gäste|"
    "grandmother Großmutter f Großmütter|uncle Onkel m Onkel|aunt Tante f Tanten|daughter Tochter f Töchter|son Sohn m Söhne"
)
ANIMALS = nouns(
    "dog Hund m Hunde|cat Katze f Katzen|horse Pferd n Pferde|bird Vogel m Vögel|cow Kuh f Kühe|mouse Maus f Mäuse mice|"
    "goat Ziege f Ziegen|duck Ente f Enten|pig Schwein n Schweine|sheep Schaf n Schafe sheep|fox Fuchs m Füchse foxes|"
    "wolf Wolf m Wölfe wolves|goose Gans f Gänse geese|hen Huhn n Hühner|donkey Esel m Esel"
)
THINGS = nouns(
    "book Buch n Bücher|letter Brief m Briefe|key Schlüssel m Schlüssel|lamp Lampe f Lampen|table Tisch m Tische|chair Stuhl m Stühle|"
    "house Haus n Häuser|boat Boot n Boote|picture Bild n Bilder|hat Hut m Hüte|coat Mantel m Mäntel|cup Tasse f Tassen|"
    "bottle Flasche f Flaschen|knife Messer n Messer knives|flower Blume f Blumen|tree Baum m Bäume|ball Ball m Bälle|ring Ring m Ringe|"
    "clock Uhr f Uhren|bag Tasche f Taschen|map Karte f Karten|drum Trommel f Trommeln|basket Korb m Körbe|stone Stein m Steine|"
    "shirt Hemd n Hemden|ladder Leiter f Leitern|mirror Spiegel m Spiegel|bell Glocke f Glocken|carpet Teppich m Teppiche|shoe Schuh m Schuhe"
)
FOODS = nouns(
    "apple Apfel m Äpfel|cake Kuchen m Kuchen|egg Ei n Eier|pear Birne f Birnen|fish Fisch m Fische fish|cherry Kirsche f Kirschen cherries|"
    "carrot Möhre f Möhren|nut Nuss f Nüsse|plum Pflaume f Pflaumen|potato Kartoffel f Kartoffeln potatoes"
)
PLACES = [
    tuple(entry.split("/"))
    for entry in (
        "in the garden/im Garten|in the kitchen/in der Küche|in the school/in der Schule|in the forest/im Wald|in the town/in der Stadt|"
        "in the village/im Dorf|at the market/auf dem Markt|in the harbour/im Hafen|in the room/im Zimmer|in the church/in der Kirche|"
        "in the field/auf dem Feld|in the castle/im Schloss|in the mill/in der Mühle|in the cellar/im Keller|in the park/im Park|"
        "under the bridge/unter der Brücke|behind the wall/hinter der Mauer|by the river/am Fluss|on the mountain/auf dem Berg|on the island/auf der Insel"
    ).split("|")
]


@dataclass(frozen=True)
class Verb:
    base: str
    third: str
    past: str  # also used for the German perfect
    infinitive: str
    er: str
    participle: str
    objects: str  # p persons, a animals, t things, f food; "" for none
    dative: bool = False


def verbs(text, dative=False):
    made = []
    for entry in text.split("|"):
        base, third, past, infinitive, er, participle, *objects = (part.replace("_", " ") for part in entry.strip().split(" "))
        made.append(Verb(base, third, past, infinitive, er, participle, objects[0] if objects else "", dative))
    return made


TRANSITIVE = verbs(
    "see sees saw sehen sieht gesehen patf|find finds found finden findet gefunden patf|buy buys bought kaufen kauft gekauft atf|"
    "sell sells sold verkaufen verkauft verkauft atf|love loves loved lieben liebt geliebt patf|paint paints painted malen malt gemalt patf|"
    "look_for looks_for looked_for suchen sucht gesucht patf|carry carries carried tragen trägt getragen atf|bring brings brought bringen bringt gebracht atf|"
    "eat eats ate essen isst gegessen f|wash washes washed waschen wäscht gewaschen patf|hear hears heard hören hört gehört pa|"
    "take takes took nehmen nimmt genommen tf|hold holds held halten hält gehalten atf|hide hides hid verstecken versteckt versteckt atf|"
    "forget forgets forgot vergessen vergisst vergessen pt|draw draws drew zeichnen zeichnet gezeichnet patf|repair repairs repaired reparieren repariert repariert t|"
    "visit visits visited besuchen besucht besucht p|need needs needed brauchen braucht gebraucht patf|lose loses lost verlieren verliert verloren atf|"
    "weigh weighs weighed wiegen wiegt gewogen atf|count counts counted zählen zählt gezählt patf|cook cooks cooked kochen kocht gekocht f|"
    "greet greets greeted grüßen grüßt gegrüßt p|catch catches caught fangen fängt gefangen pa|feed feeds fed füttern füttert gefüttert a"
)
DATIVE = verbs(
    "help helps helped helfen hilft geholfen p|thank thanks thanked danken dankt gedankt p|answer answers answered antworten antwortet geantwortet p|"
    "trust trusts trusted vertrauen vertraut vertraut pa",
    dative=True,
)
GIVING = verbs("give gives gave geben gibt gegeben|show shows showed zeigen zeigt gezeigt|send sends sent schicken schickt geschickt")
INTRANSITIVE = verbs(
    "sleep sleeps slept schlafen schläft geschlafen|sing sings sang singen singt gesungen|work works worked arbeiten arbeitet gearbeitet|"
    "laugh laughs laughed lachen lacht gelacht|wait waits waited warten wartet gewartet|dance dances danced tanzen tanzt getanzt|"
    "play plays played spielen spielt gespielt|cry cries cried weinen weint geweint|read reads read lesen liest gelesen|talk talks talked reden redet geredet"
)
ADJECTIVES = [
    tuple(entry.split(" "))
    for entry in (
        "small klein|big groß|old alt|young jung|red rot|blue blau|green grün|white weiß|black schwarz|new neu|beautiful schön|heavy schwer|"
        "cheap billig|strong stark|round rund|poor arm|rich reich|funny lustig|yellow gelb|brown braun|clean sauber|warm warm|cold kalt|strange seltsam"
    ).split("|")
]
LIVING = "old young poor rich funny strong small big strange beautiful".split()
STATES = [tuple(e.split(" ")) for e in "tired müde|happy glücklich|sad traurig|brave mutig|hungry hungrig|ill krank|angry wütend|quiet still|proud stolz|free frei".split("|")]
TIMES = {
    "present": [tuple(e.split("/")) for e in "today/heute|now/jetzt|often/oft|sometimes/manchmal|in the evening/am Abend|in the morning/am Morgen|every day/jeden Tag".split("|")],
    "past": [tuple(e.split("/")) for e in "yesterday/gestern|last night/letzte Nacht|on Monday/am Montag|on Sunday/am Sonntag|last year/letztes Jahr".split("|")],
    "future": [tuple(e.split("/")) for e in "tomorrow/morgen|soon/bald|next year/nächstes Jahr|on Friday/am Freitag|in summer/im Sommer".split("|")],
}
MODALS = {"can": ("kann", "können"), "must": ("muss", "müssen"), "will": ("wird", "werden"), "may": ("darf", "dürfen")}
NUMBERS = [tuple(e.split(" ")) for e in "two zwei|three drei|four vier|five fünf|six sechs|seven sieben|many viele".split("|")]
OWNERS = [tuple(e.split(" ")) for e in "my mein|his sein|her ihr|our unser".split("|")]
PRONOUNS = [("I", "ich", "1s"), ("he", "er", "3s"), ("she", "sie", "3s"), ("we", "wir", "pl"), ("they", "sie", "pl")]
OBJECT_PRONOUNS = [("him", "ihn", "ihm"), ("me", "mich", "mir"), ("us", "uns", "uns"), ("her", "sie", "ihr"), ("them", "sie", "ihnen")]

DEFINITE = {
    "nom": dict(m="der", f="die", n="das", pl="die"),
    "acc": dict(m="den", f="die", n="das", pl="die"),
    "dat": dict(m="dem", f="der", n="dem", pl="den"),
}
ENDING_OF_EIN = {
    "nom": dict(m="", f="e", n="", pl="e"),
    "acc": dict(m="en", f="e", n="", pl="e"),
    "dat": dict(m="em", f="er", n="em", pl="en"),
}
WEAK = {"nom": dict(m="e", f="e", n="e", pl="en"), "acc": dict(m="en", f="e", n="e", pl="en"), "dat": dict(m="en", f="en", n="en", pl="en")}
MIXED = {"nom": dict(m="er", f="e", n="es", pl="en"), "acc": dict(m="en", f="e", n="es", pl="en"), "dat": dict(m="en", f="en", n="en", pl="en")}
STRONG_PLURAL = {"nom": "e", "acc": "e", "dat": "en"}


@dataclass
class Phrase:
    """A noun phrase: its English and its German in the case asked for."""

    english: str
    german: str
    plural: bool
    indefinite: str = ""  # the same with `kein`, for an indefinite object


def noun_phrase(random, noun, case, kinds="dioq"):
    """`kinds`: d definite, i indefinite, o owned, q counted."""
    kind = kinds[random.integers(len(kinds))]
    plural = kind == "q" or (kind != "i" and random.random() < 0.2)
    gender = "pl" if plural else noun.gender
    living = noun in PERSONS or noun in ANIMALS
    english_noun, german_noun = (noun.plural, noun.german_plural) if plural else (noun.english, noun.german)
    if plural and case == "dat" and german_noun[-1] not in "ns":
        german_noun += "n"
    adjective = None
    if random.random() < 0.4:
        adjective = pick(random, [a for a in ADJECTIVES if (a[0] in LIVING) == living or (living and a[0] in ("black", "white", "brown") and noun in ANIMALS)])
    ein = ENDING_OF_EIN[case][gender]
    if kind == "d":
        words, german, ending = "the", DEFINITE[case][gender], WEAK[case][gender]
    elif kind == "i":
        first = adjective[0] if adjective else english_noun
        words, german, ending = ("an" if first[0] in "aeiou" else "a"), "ein" + ein, MIXED[case][gender]
    elif kind == "o":
        words, stem = pick(random, OWNERS)
        german, ending = stem + ein, MIXED[case][gender]
    else:
        words, german = pick(random, NUMBERS)
        if words == "many":
            german = "viele" if case != "dat" else "vielen"
        ending = STRONG_PLURAL[case]
    english_parts = [words, adjective[0] if adjective else "", english_noun]
    german_parts = [german, adjective[1] + ending if adjective else "", german_noun]
    join = lambda parts: " ".join(part for part in parts if part)
    none = join(["kein" + ein, *german_parts[1:]]) if kind == "i" else ""
    return Phrase(join(english_parts), join(german_parts), plural, none)


@dataclass
class Clause:
    """The parts of one statement; `main`, `last` and `question` put them in order."""

    subject: tuple  # English, German, person: 1s, 3s or pl
    time: tuple | None
    english_verb: str
    finite: str
    rest: str  # infinitive or participle
    objects: list  # (English, German)
    place: tuple | None
    negated: str = ""

    def english(self, time_first=True):
        middle = [self.subject[0], self.english_verb, *(english for english, _ in self.objects), self.place[0] if self.place else ""]
        time = self.time[0] if self.time else ""
        parts = [time, *middle] if time_first else [*middle, time]
        return " ".join(part for part in parts if part)

    def field(self, time):
        return [time, *(german for _, german in self.objects), self.negated, self.place[1] if self.place else "", self.rest]

    def german_main(self):
        time = self.time[1] if self.time else ""
        parts = [time, self.finite, self.subject[1], *self.field("")] if time else [self.subject[1], self.finite, *self.field("")]
        return " ".join(part for part in parts if part)

    def german_last(self):
        parts = [self.subject[1], *self.field(self.time[1] if self.time else ""), self.finite]
        return " ".join(part for part in parts if part)


def subject(random):
    if random.random() < 0.3:
        return pick(random, PRONOUNS)
    phrase = noun_phrase(random, pick(random, PERSONS + (ANIMALS if random.random() < 0.3 else [])), "nom")
    return phrase.english, phrase.german, "pl" if phrase.plural else "3s"


def present_form(verb, person):
    if person == "pl":
        return verb.infinitive
    if person == "1s":
        return verb.infinitive[:-2] + "e" if verb.infinitive.endswith("en") else verb.infinitive[:-1] + "e"
    return verb.er


def verb_forms(random, verb, tense, person, negative):
    """English verb, German finite verb, German rest."""
    singular = person == "3s"
    if tense == "present" and random.random() < 0.35:
        # "must not" is "darf nicht": it is left out, so that every word has one translation.
        modal = pick(random, ["can", "may"] if negative else ["can", "must", "may"])
        return f"{modal}{' not' if negative else ''} {verb.base}", MODALS[modal][person == "pl"], verb.infinitive
    if tense == "present":
        english = f"{'does' if singular else 'do'} not {verb.base}" if negative else (verb.third if singular else verb.base)
        return english, present_form(verb, person), ""
    if tense == "future":
        finite = {"1s": "werde", "3s": "wird", "pl": "werden"}[person]
        return f"will{' not' if negative else ''} {verb.base}", finite, verb.infinitive
    finite = {"1s": "habe", "3s": "hat", "pl": "haben"}[person]
    return (f"did not {verb.base}" if negative else verb.past), finite, verb.participle


def clause(random, with_place=True):
    tense = pick(random, ["present", "present", "past", "future"])
    who = subject(random)
    kind = random.random()
    negative = random.random() < 0.15
    pool = {"p": PERSONS, "a": ANIMALS, "t": THINGS, "f": FOODS}
    of = lambda verb: pick(random, pool[verb.objects[random.integers(len(verb.objects))]])
    objects, negated = [], ""
    if kind < 0.55:
        verb = pick(random, TRANSITIVE)
        if random.random() < 0.12 and "p" in verb.objects and who[0] not in ("I", "we"):
            english, german, _ = pick(random, OBJECT_PRONOUNS)
            objects.append((english, german))
            negated = "nicht" if negative else ""
        else:
            phrase = noun_phrase(random, of(verb), "acc", "dio" if negative else "dioq")
            objects.append((phrase.english, phrase.indefinite if negative and phrase.indefinite else phrase.german))
            negated = "nicht" if negative and not phrase.indefinite else ""
    elif kind < 0.7:
        verb = pick(random, DATIVE)
        phrase = noun_phrase(random, of(verb), "dat", "do")
        objects.append((phrase.english, phrase.german))
        negated = "nicht" if negative else ""
    elif kind < 0.82:
        verb, negative = pick(random, GIVING), False
        to = noun_phrase(random, pick(random, PERSONS), "dat", "dio")
        what = noun_phrase(random, pick(random, THINGS + FOODS), "acc", "diq")
        objects += [(to.english, to.german), (what.english, what.german)]
    else:
        verb = pick(random, INTRANSITIVE)
        negated = "nicht" if negative else ""
    english, finite, rest = verb_forms(random, verb, tense, who[2], negative)
    place = pick(random, PLACES) if with_place and random.random() < 0.4 else None
    time = pick(random, TIMES[tense]) if random.random() < 0.45 else None
    return Clause(who, time, english, finite, rest, objects, place, negated)


def state(random):
    """`because he is tired` and the like, verb last in German."""
    who, (english, german) = subject(random), pick(random, STATES)
    is_, ist = {"1s": ("am", "bin"), "3s": ("is", "ist"), "pl": ("are", "sind")}[who[2]]
    return f"{who[0]} {is_} {english}", f"{who[1]} {german} {ist}"


def pair(random):
    """One English sentence and its German translation."""
    first = clause(random)
    kind = random.random()
    if kind < 0.5:
        english, german = first.english(), first.german_main()
    elif kind < 0.7:
        reason = state(random)
        english = f"{first.english(time_first=False)} because {reason[0]}"
        german = f"{first.german_main()}, weil {reason[1]}"
    elif kind < 0.82:
        reason = clause(random, with_place=False)
        english = f"{first.english(time_first=False)} because {reason.english(time_first=False)}"
        german = f"{first.german_main()}, weil {reason.german_last()}"
    elif kind < 0.93:
        who = subject(random)
        says, sagt = {"1s": ("say", "sage"), "3s": ("says", "sagt"), "pl": ("say", "sagen")}[who[2]]
        english, german = f"{who[0]} {says} that {first.english(time_first=False)}", f"{who[1]} {sagt}, dass {first.german_last()}"
    else:
        second = clause(random, with_place=False)
        english = f"{first.english(time_first=False)}, but {second.english()}"
        german = f"{first.german_main()}, aber {second.german_main()}"
    capital = lambda text: text[0].upper() + text[1:] + "."
    return capital(english), capital(german)
