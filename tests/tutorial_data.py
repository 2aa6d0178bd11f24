"""Data sets as people have them, drawn from small grammars: support tickets, sentences with names, and pairs of sentences."""

import csv
from pathlib import Path
from random import Random

TICKETS, SENTENCES, PAIRS = 3000, 1500, 2000

# --- a table of tickets

GREETINGS = ("", "Guten Tag, ", "Hallo, ", "Sehr geehrte Damen und Herren, ")
ENDINGS = ("", " Danke.", " Mit freundlichen Grüßen", " Bitte um Rückruf.", " Für Ihre Hilfe wäre ich dankbar.")
# category -> how many tickets of ten, and what people write
COMPLAINTS = {
    "Rechnung": (
        4,
        (
            "auf der Rechnung vom {day} stehen {money} zu viel.",
            "mir wurden für die {article} {money} zweimal abgebucht.",
            "die Gutschrift über {money} ist nicht angekommen.",
            "der Betrag von {money} stimmt nicht mit dem Angebot überein.",
            "warum kostet die {article} jetzt {money}?",
        ),
    ),
    "Lieferung": (
        3,
        (
            "die {article} ist seit {day} unterwegs und noch nicht da, Bestellung {number}.",
            "das Päckchen {number} mit der {article} kam beschädigt an.",
            "statt der {article} lag etwas anderes im Päckchen {number}.",
            "kann die {article} auch am {day} geliefert werden? Bestellung {number}.",
            "der Bote war am {day} hier, ich habe die Tür nicht gehört, Bestellung {number}.",
        ),
    ),
    "Konto": (
        2,
        (
            "mein Passwort wird seit {day} nicht mehr angenommen, Kunde {number}.",
            "ich möchte die Adresse im Konto {number} ändern.",
            "bitte löschen Sie mein Konto {number}.",
            "die Bestätigung für die Anmeldung von Kunde {number} kommt nicht an.",
            "mein Zugang {number} ist seit {day} gesperrt.",
        ),
    ),
    "Rückgabe": (
        1,
        (
            "ich möchte die {article} aus Bestellung {number} zurückgeben.",
            "wohin schicke ich die {article} zurück, Bestellung {number}?",
            "die {article} gefällt mir nicht, ich hätte gern die {money} zurück.",
            "die {article} aus Bestellung {number} passt nicht, ist ein Umtausch möglich?",
        ),
    ),
}
ARTICLES = ("Kaffeemühle", "Nähmaschine", "Bohrmaschine", "Kühlbox", "Schüssel", "Gießkanne", "Lampe", "Schürze")
GERMAN_DAYS = {"Montag": "Monday", "Dienstag": "Tuesday", "Mittwoch": "Wednesday", "Donnerstag": "Thursday", "Freitag": "Friday"}  # fmt: skip


def write_tickets(file: Path, seed: int = 1) -> None:
    """A table in CP1252 with semicolons, as spreadsheets write it in Germany."""
    random = Random(seed)
    with file.open("w", encoding="cp1252", newline="") as opened:
        table = csv.writer(opened, delimiter=";")
        table.writerow(["Nummer", "Eingang", "Text", "Kategorie"])
        for number in range(TICKETS):
            (category,) = random.choices([*COMPLAINTS], [share for share, _ in COMPLAINTS.values()])
            text = random.choice(GREETINGS) + random.choice(COMPLAINTS[category][1]) + random.choice(ENDINGS)
            text = text.format(
                day=random.choice([*GERMAN_DAYS]),
                article=random.choice(ARTICLES),
                number=random.randrange(10_000, 99_999),
                money=f"{random.randrange(5, 200)},{random.randrange(100):02} €",
            )
            day = f"{random.randrange(1, 29):02}.{random.randrange(1, 13):02}.2025"
            table.writerow([1001 + number, day, text[0].upper() + text[1:], category])


# --- sentences with names

FIRST_NAMES = ("Ada", "Bo", "Chloé", "Dmitri", "Elif", "Fatou", "Goran", "Hana", "Inés", "Jürgen", "Kofi", "Lena")
LAST_NAMES = (
    "Abebe",
    "Berg",
    "Costa",
    "Dupont",
    "Ek",
    "Fischer",
    "Grant",
    "Horváth",
    "Ito",
    "Jansen",
    "Keller",
    "Lopez",
)
PLACES = ("Accra", "Bergen", "Cork", "Dresden", "Évora", "Ghent", "Kyoto", "Lima", "New York", "San Marino", "Zürich")
FIRMS = ("Acme", "Blue Harbour", "Delta Foods", "Nordwind", "Old Mill", "Solaris Energy")
ENDS_OF_FIRMS = ("AG", "Ltd", "Inc", "Group")
REPORTS = (
    "{PER} joins {ORG} in {LOC} .",
    "{ORG} opens an office in {LOC} on {day} .",
    "{PER} and {PER} leave {ORG} .",
    "On {day} , {PER} travels from {LOC} to {LOC} .",
    "The office of {ORG} in {LOC} closes , {PER} says .",
    "{ORG} buys {ORG} for {count} million euros .",
    "Who is {PER} ?",
    "The weather in {LOC} is fine on {day} .",
    "Nothing new on {day} .",
)


def write_names(file: Path, seed: int = 2) -> None:
    """CoNLL: a token and its tag in a line, BIO2, and an empty line after each sentence."""
    random = Random(seed)

    def names(kind: str) -> str:
        if kind == "PER":
            return f"{random.choice(FIRST_NAMES)} {random.choice(LAST_NAMES)}"
        if kind == "ORG":
            return f"{random.choice(FIRMS)} {random.choice(ENDS_OF_FIRMS)}"
        return random.choice(PLACES)

    with file.open("w", encoding="utf-8") as opened:
        for _ in range(SENTENCES):
            for word in random.choice(REPORTS).split():
                kind = word.strip("{}")
                if kind in ("PER", "ORG", "LOC"):
                    for number, token in enumerate(names(kind).split()):
                        print(token, f"{'I' if number else 'B'}-{kind}", file=opened)
                else:
                    day, count = random.choice([*GERMAN_DAYS.values()]), random.randrange(2, 100)
                    print(word.format(day=day, count=count), "O", file=opened)
            print(file=opened)


# --- pairs of sentences

ADJECTIVES = {
    "rote": "red", "grüne": "green", "blaue": "blue", "weiße": "white", "schwarze": "black", "alte": "old", "neue": "new",
    "kleine": "small", "große": "large", "schöne": "beautiful", "kaputte": "broken", "schwere": "heavy",
}  # fmt: skip
THINGS = {
    "der Koffer": "suitcase", "der Schlüssel": "key", "der Stuhl": "chair", "der Löffel": "spoon", "der Mantel": "coat",
    "der Hut": "hat", "die Tasche": "bag", "die Tür": "door", "die Brücke": "bridge", "die Uhr": "clock", "die Lampe": "lamp",
    "die Schüssel": "bowl", "das Fahrrad": "bicycle", "das Schiff": "ship", "das Haus": "house", "das Bild": "picture",
    "das Buch": "book", "das Fenster": "window",
}  # fmt: skip
NOTES = (
    ("Wo ist {thing}?", "Where is {thing}?"),
    ("Wem gehört {thing}?", "Whose is {thing}?"),
    ("Wie teuer ist {thing}?", "How expensive is {thing}?"),
    ("Hier steht {thing}.", "Here is {thing}."),
    ("Heute ist {thing} weg.", "Today {thing} is gone."),
    ("Mir gefällt {thing} nicht.", "I do not like {thing}."),
    ("Gestern war {thing} noch da.", "Yesterday {thing} was still here."),
)


def write_pairs(german: Path, english: Path, seed: int = 3) -> None:
    """Two files of which each line of the one is the translation of that line of the other."""
    random = Random(seed)
    with german.open("w", encoding="utf-8") as one, english.open("w", encoding="utf-8") as other:
        for _ in range(PAIRS):
            adjective, translated = random.choice([*ADJECTIVES.items()])
            thing, called = random.choice([*THINGS.items()])
            article, _, noun = thing.partition(" ")
            asked, meant = random.choice(NOTES)
            print(asked.format(thing=f"{article} {adjective} {noun}"), file=one)
            print(meant.format(thing=f"the {translated} {called}"), file=other)
