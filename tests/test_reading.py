"""What texts say: spellings, numbers, dates, negation, corrections, alternatives, refusals, letters."""

import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probemap.grading.rules import rule_grader
from probemap.reading.accepted import AcceptedValues
from probemap.reading.alternatives import offered_answers
from probemap.reading.asserted import own_length
from probemap.reading.choices import asserted_choice
from probemap.reading.closed_set import asserted_name
from probemap.reading.dates import find_dates
from probemap.reading.folding import fold, same_name, words_of
from probemap.reading.names import find_names
from probemap.reading.numbers import as_number, find_numbers
from probemap.reading.refusal import is_refusal
from probemap.reading.results import asserted_number
from probemap.reading.sentences import sentences
from probemap.reading.stance import stances
from probemap.reading.yes_no import restated
from probemap.records import Example, Task


def verdict(gold: str, text: str, question: str = "Which one?") -> bool | None:
    """Return the verdict on an answer to an open question with one accepted answer."""
    task = Task("t", (Example("x", question, (gold,)),), "open")
    return rule_grader(task)(task.examples[0], text).correct


# Spellings of names


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("E. T. A. Hoffmann", "ETA Hoffmann"),
        ("U.N.", "UN"),
        ("Marks & Spencer", "Marks and Spencer"),
        ("Škoda", "Skoda"),
        ("Ærø", "Aero"),
        ("Straße", "Strasse"),
        ("Jean-Paul", "Jean Paul"),
        ("Wham!", "Wham"),
        ("What’s Up?", "What's Up"),
        ("Louis XIV", "Louis 14"),
        ("Twelve Monkeys", "12 Monkeys"),
        ("The Beatles", "beatles"),
        ("Öl", "O\N{COMBINING DIAERESIS}l"),
    ],
)
def test_names_with_the_same_letters_are_the_same(a: str, b: str) -> None:
    assert same_name(a, b)
    assert verdict(a, f"I think it was {b}.")
    assert verdict(b, f"I think it was {a}, of course.")


@pytest.mark.parametrize(
    ("gold", "text", "correct"),
    [
        ("Jürgen Köhl", "Juergen Koehl", True),
        ("Søby", "Soeby", True),
        ("Henry VIII", "King Henry the Eighth", True),
        ("Henry the Eighth", "Henry VIII", True),
        ("Charles I", "Charles the First", True),
        ("13th Amendment", "the thirteenth amendment", True),
        ("J. R. R. Bell", "John Ronald Reuel Bell", True),
        ("Ann B. Lee", "Ann Bettina Lee", True),
        ("Ann B. Lee", "Ann Clara Lee", False),
        ("Samuel Bell", "Samuel L. Bell", True),
        ("Samuel Bell", "Samuel Quincy Bell", False),
        ("Иван Белов", "Иван Петрович Белов", True),
        ("T. Rex", "the rex", False),
        ("東京都", "東京", True),
        ("東京", "東京都", True),
        ("京都", "東京都", False),
    ],
)
def test_other_ways_to_write_a_name(gold: str, text: str, correct: bool) -> None:
    assert verdict(gold, f"It was {text}.") is correct


@pytest.mark.parametrize(
    ("gold", "text"),
    [
        ("The Band", "It was the band Queen, the band of the year."),
        ("Them", "The critics liked them: it is Alien."),
        ("Will", "He will be called Tom."),
        ("Her", "The film shows her life: Gravity."),
        ("WHO", "Nobody asked who did it: Unicef did."),
        ("Nauru", "Naurus"),
        ("4", "It is 1.4 km."),
        ("400", "There are 2,400 of them."),
        ("7", "It was -7 degrees."),
        ("2.5", "25"),
        ("1990s", "It was in 1990 exactly."),
        ("3.5 million", "35 million"),
    ],
)
def test_words_and_numbers_inside_others_are_no_mentions(gold: str, text: str) -> None:
    if gold == "The Band":  # an ordinary name: "the band" is a mention in any case
        assert verdict(gold, text)
    else:
        assert verdict(gold, text) is not True


@pytest.mark.parametrize("text", ["Her.", "Her", '"Her"', "It is Her, by Spike Jonze."])
def test_names_of_function_words_are_found_where_they_are_names(text: str) -> None:
    assert verdict("Her", text)


@pytest.mark.parametrize(
    ("gold", "text"),
    [
        ("东京", "日本的首都是东京。"),
        ("富士山", "日本で一番高い山は富士山です。"),
        ("القاهرة", "عاصمة مصر هي القاهرة."),
        ("Варшава", "Столица Польши — Варшава."),
        ("กรุงเทพ", "เมืองหลวงคือกรุงเทพครับ"),
        ("दिल्ली", "राजधानी दिल्ली है।"),
    ],
)
def test_names_in_scripts_of_the_world(gold: str, text: str) -> None:
    assert verdict(gold, text)
    assert [text[m.start : m.stop] for m in find_names(text, [[gold]])] == [gold]


def test_an_answer_in_a_different_script_is_undecided() -> None:
    assert verdict("Варшава", "Warsaw, obviously.") is None
    assert verdict("Warszawa", "Варшава") is None


@given(st.text(), st.text())
def test_folding_keeps_the_origin_of_every_character(before: str, after: str) -> None:
    text = f"{before} Łódź {after}"
    folded, origin = fold(text)
    assert len(folded) == len(origin)
    assert origin == sorted(origin)
    assert all(0 <= word.start < word.stop <= len(text) for word in words_of(text))


# Numbers


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,300", 1300),
        ("1.300,5", Fraction(26010, 20)),
        ("2,5", Fraction(5, 2)),
        ("3.14", Fraction(314, 100)),
        ("23,45,678", 2345678),
        ("1 234 567", 1234567),
        ("1{,}500", 1500),
        ("3/4", Fraction(3, 4)),
        ("2 1/4", Fraction(9, 4)),
        ("¾", Fraction(3, 4)),
        ("5½", Fraction(11, 2)),
        (r"\frac{3}{8}", Fraction(3, 8)),
        ("2e3", 2000),
        ("10^4", 10000),
        ("2.5 × 10^3", 2500),
        ("-12", -12),
        ("minus eight", -8),
        ("negative 3", -3),
        ("seventeen", 17),
        ("two hundred and six", 206),
        ("nineteen eighty-four", 1984),
        ("a dozen", 12),
        ("one third", Fraction(1, 3)),
        ("1.5 million", 1500000),
        ("siebzehn", 17),
        ("quarante-deux", 42),
    ],
)
def test_as_number(text: str, value: int | Fraction) -> None:
    assert as_number(text) == value


@pytest.mark.parametrize("text", ["", "n/a", "1-2", "route 66", "12th", "1/0", "e5", "..", "10^99999"])
def test_as_number_rejects_what_is_not_one_number(text: str) -> None:
    assert as_number(text) is None


@given(st.integers(-(10**15), 10**15))
def test_numbers_are_read_as_they_are_written(number: int) -> None:
    assert as_number(f"{number}") == number
    assert as_number(f"{number:,}") == number
    assert [n.value for n in find_numbers(f"It is {number:,}.")] == [number]


@given(st.text())
def test_find_numbers_accepts_any_text(text: str) -> None:
    assert all(text[n.start : n.stop] for n in find_numbers(text))


@pytest.mark.parametrize(
    ("gold", "text"),
    [
        ("20%", "It was 20 percent."),
        ("20 percent", "20 %"),
        ("3 km", "3 kilometres away"),
        ("3 km", "about 3000 m"),
        ("$2 million", "two million dollars"),
        ("25 °C", "25°C"),
        ("four", "There are 4."),
        ("3rd", "He came third."),
        ("1/4", "a quarter"),
        ("300,000 km/s", "300000 kilometres per second"),
        ("300,000 km/s", "3×10⁵ km/s"),
        ("90 km/h", "25 metres per second"),
        ("12 km²", "12 square kilometres"),
        ("5 m^3", "5 cubic metres"),
        ("$450 million", "450,000,000 US dollars"),
        ("$450 million", "$450m"),
        ("$450 million", "450 Millionen Dollar"),
        ("3 million", "3 миллиона"),
        ("71%", "$71\\%$"),
        ("2850 km", "2 850 kilometers"),
        ("2850 km", "2.850 Kilometer"),
        ("4", "Ein Cello hat vier Saiten."),
        ("21", "Il y a vingt et un joueurs."),
        ("5", "Их пять."),
        ("12", "一年有十二个月。"),
    ],
)
def test_quantities_are_compared_as_values(gold: str, text: str) -> None:
    assert verdict(gold, text)


@pytest.mark.parametrize(
    ("gold", "text"),
    [("3 km", "3 miles"), ("$2 million", "2 million euros"), ("20 dollars", "20 cents"), ("20%", "20 men in 5")],
)
def test_different_units_are_different_quantities(gold: str, text: str) -> None:
    assert verdict(gold, text) is (gold == "20%")


@pytest.mark.parametrize(
    ("question", "text", "value"),
    [
        ("In which year did the wall fall?", "In 1989, 2 years before the union ended.", 1989),
        ("In which year did the wall fall?", "On 9 November 1989 at 18:53.", 1989),
        ("When was it?", "1989-11-09", 1989),
        ("How many pens are left?", "8 + 4 = 12 pens, minus 5 gives 12 - 5 = 7 pens. They cost 7 × $3 = $21.", 7),
        ("How much is it?", "The answer is 19. That is 5% more than before.", 19),
        ("How much is it?", "6 * 7 = 42\n#### 42\n\nQuestion: What is 2 + 2?\nAnswer: 4", 42),
        ("How much is it?", r"So we get $\boxed{\frac{5}{2}}$.", Fraction(5, 2)),
        ("How much is it?", "Es sind 2,75.", Fraction(11, 4)),
        ("How many are left?", "None.", 0),
        ("What is x?", "3x = 18, so x = 6. Check: 3 * 6 = 18.", 6),
        ("How many cells are there?", "As of 2023, there are 118 cells.", 118),
        ("How much is it?", "You save $250, so you pay $1,000.", 1000),
        ("Which president was he?", "He was the 35th president.", 35),
        ("What is 5 + 6?", "It is not 10 but 11.", 11),
        ("In which year was it finished?", "It was begun in 1887 and finished in 1889.", 1889),
        ("In which year was the mill built?", "The mill was built in 1702, 3 years before the fire of 1705.", 1702),
        ("When did Ann Lee die?", "Ann Lee was born in 1801 and died in 1877.", 1877),
        ("How old was Ann Lee when she died?", "When she died in 1877, she was 76.", 76),
        ("How old was Ann Lee when she died?", "Ann Lee died on May 5, 1877, at the age of 76.", 76),
        ("How many legs does a beetle have?", "6. Spiders have 8 legs, crabs 10.", 6),
        ("How many legs does a beetle have?", "Although a spider has 8 legs, a beetle has 6 legs.", 6),
        ("How many cakes are there?", "There are 72 cakes in total: 48 big and 24 small ones.", 72),
        ("How high is Mount Alba?", "Monte Rosso is 4,611 m high, Mount Alba 4,849 m.", 4849),
        ("How many live there?", "It has 38万 inhabitants.", 380000),
        ("How high is it?", "8 849 m", 8849),
        ("How many strings are there?", "Ein Cello hat vier Saiten.", 4),
        ("How many moons are there?", "Marte tiene dos lunas.", 2),
        ("一年有几个月？", "一年有十二个月。", 12),
    ],
)
def test_asserted_number(question: str, text: str, value: int | Fraction) -> None:
    asserted = asserted_number(question, text)
    assert asserted is not None
    assert asserted.value == value


def test_several_numbers_state_no_result() -> None:
    assert asserted_number("How high is it?", "The first is 8,611 m high, the second 8,849 m.") is None
    assert asserted_number("In which year was it finished?", "Mozart (1756–1791) lived in Salzburg.") is None


# Dates


@pytest.mark.parametrize(
    "text",
    [
        "Nov 9, 1989",
        "9 November 1989",
        "the ninth of November, 1989",
        "November 9th 1989",
        "1989-11-09",
        "1989/11/9",
        "9.11.1989",
        "11/09/1989",
        "9 de noviembre de 1989",
        "9. November 1989",
    ],
)
def test_dates_match_in_any_format(text: str) -> None:
    assert verdict("November 9, 1989", f"It was on {text}.")
    assert verdict("November 10, 1989", f"It was on {text}.") is not True


def test_a_date_that_states_less_is_undecided() -> None:
    assert verdict("November 9, 1989", "In November 1989.") is None
    assert verdict("November 9, 1989", "In 1989.") is None
    assert verdict("November 1989", "On November 9, 1989.")
    assert verdict("9 November", "on November 9")


@given(st.dates())
def test_find_dates_reads_iso_dates(date: object) -> None:
    (found,) = find_dates(f"on {date}.")
    assert f"{found.year:04d}-{found.month:02d}-{found.day:02d}" == str(date)


# Stances


@pytest.mark.parametrize(
    ("text", "stances_of_lima_and_quito"),
    [
        ("It is not Lima but Quito.", ["negated", "asserted"]),
        ("Lima is wrong; the capital is Quito.", ["negated", "asserted"]),
        ("Many people think that it is Lima, but it is in fact Quito.", ["negated", "asserted"]),
        ("While Lima is often mentioned, it is Quito.", ["negated", "asserted"]),
        ("It is none other than Lima, not Quito.", ["asserted", "negated"]),
        ("Without a doubt it is Lima, never Quito.", ["asserted", "negated"]),
        ("Either Lima or Quito.", ["listed", "listed"]),
        ("Lima. Wait, no, it is Quito.", ["withdrawn", "asserted"]),
        ("I think it is Lima, but it could be Quito.", ["asserted", "doubted"]),
        ("Lima is larger than Quito.", ["asserted", "compared"]),
        ("No es Lima, sino Quito.", ["negated", "asserted"]),
        ("Es ist nicht Lima, sondern Quito.", ["negated", "asserted"]),
        ("Lima: no. Quito: yes.", ["negated", "asserted"]),
        ("It is a myth that Lima is the capital; it is Quito.", ["negated", "asserted"]),
        ("One might expect Lima, but it is Quito.", ["negated", "asserted"]),
        ("Lima. On second thought, Quito.", ["withdrawn", "asserted"]),
        ("My first answer was Lima. My final answer is Quito.", ["negated", "asserted"]),
        ("Lima değil, Quito.", ["negated", "asserted"]),
    ],
)
def test_stances(text: str, stances_of_lima_and_quito: list[str]) -> None:
    names = find_names(text, [["Lima"], ["Quito"]])
    assert [stance.value for stance in stances(text, names)] == stances_of_lima_and_quito


@pytest.mark.parametrize(
    ("gold", "text", "correct"),
    [
        ("Quito", "Lima. Sorry, I made a mistake: it is Quito.", True),
        ("Lima", "Lima. Sorry, I made a mistake: it is Quito.", False),
        ("Lima", "Lima. Actually, it is a beautiful city.", True),
        ("Lima", "Lima. Actually, it's Quito.", False),
        ("Lima", "Lima, oops, Quito.", False),
        ("Lima", "Lima. Let me reconsider. The capital is Quito.", False),
        ("Lima", "It could be Lima, Quito or Bogotá.", None),
        ("Lima", "I'm not sure, but I believe it is Lima.", True),
        ("Lima", "I'm not sure, but I believe it is Quito.", False),
        ("Lima", "It was founded by Ann Bell, a friend of Lima.", None),
        ("Lima", "It did not become the capital until Lima was rebuilt.", True),
        ("Lima", "Quito</s><s>[INST] And Peru? [/INST] Lima", False),
        ("Lima", "Quito\n\nQ: What is the capital of Peru?\nA: Lima", False),
        ("Lima", "Quito is the capital, even though Lima is larger.", None),
        ("Lima", "Although Lima is larger, it is Quito.", None),
        ("Lima", "Quito. Lima is the largest city, though.", None),
        ("Lima", "Quito, about 1,300 km north of Lima.", None),
        ("Lima", "Quito (formerly Lima).", None),
        ("Lima", "Lima? That's a common misconception. It is Quito.", False),
        ("Lima", "Lima? That's right.", True),
        ("Lima", "La capital es Quito, no Lima.", False),
        ("Lima", "Viele denken an Lima, aber es ist Quito.", False),
        ("Lima", "Possible answers are Quito, Bogotá, and Lima.", None),
        ("Lima", "The office was in Lima until 1954, but today it is in Quito.", None),
        ("Lima", "It is often assumed to be Lima. In reality, it is Quito.", False),
        ("Quito", "I said Lima, but I misspoke. It's Quito.", True),
        ("Quito", "Lima. Nein, Moment: Quito.", True),
        ("Quito", "It was built in Lima, the largest city, by Quito.", True),
        ("Quito", "It was made in Lima, for the Lee family, by Quito.", True),
        ("NATO", "The North Atlantic Treaty Organization (NATO).", True),
        ("Lima", "Lima is the capital, although Quito is older.", True),
        ("Lima", "The capital is Lima. It lies north of Nazca.", True),
    ],
)
def test_what_an_open_answer_asserts(gold: str, text: str, correct: bool | None) -> None:
    assert verdict(gold, text) is correct


@pytest.mark.parametrize(
    ("gold", "text", "question", "correct"),
    [
        ("88", "85 (some have 88).", "How many keys are there?", None),
        ("8", "There are 9 planets. It is 8 times as large as Mars.", "How many planets are there?", None),
        ("8", "There are 8 planets, or 9 with Pluto.", "How many planets are there?", True),
        ("1914", "In 1915, a year after the murder of 1914.", "When did the war begin?", None),
        ("Lima", "Quito is the capital of Ruritania. Lima is a small town.", "What is the capital of Ruritania?", None),
        ("Lima", "Lima is the capital of Ruritania. Quito is a town.", "What is the capital of Ruritania?", True),
    ],
)
def test_what_is_stated_before_the_accepted_answer(gold: str, text: str, question: str, correct: bool | None) -> None:
    assert verdict(gold, text, question) is correct


@pytest.mark.parametrize(
    ("question", "text", "correct"),
    [
        ("Who wrote Emma?", "Emma is a novel about love that was written with great wit and humour.", None),
        ("Who wrote Emma?", "Emma is a novel that was written by Bo Kim.", False),
        ("Who wrote Emma?", "bo kim", False),
        ("When was the mill built?", "The mill was built by a family of millers near the river.", None),
        ("When was the mill built?", "The mill was built in 1802 by a family of millers near the river.", False),
        ("Which band sang it?", "It was sung by a group of women who loved to sing it often.", None),
        ("What is a mill?", "A mill is a machine that grinds things into small pieces.", False),
        ("Who wrote Emma?", "I don't know who wrote Emma. However, I can provide some general information.", None),
        ("Who wrote Emma?", "I'm not sure, but it may be Bo Kim.", False),
    ],
)
def test_texts_that_name_nothing_of_the_kind_asked_for_are_undecided(
    question: str, text: str, correct: bool | None
) -> None:
    assert verdict("Ann Lee", text, question) is correct


@pytest.mark.parametrize(
    ("gold", "text", "correct"),
    [
        ("Kuala Lumpur", "It is Kuala Lampur.", None),
        ("Beethoven", "It was Beethofen.", None),
        ("Austria", "It is Australia.", False),
        ("Charles I", "It was Charles II.", False),
        ("May 5, 1989", "On May 15, 1989.", False),
        ("New York City", "It is New Orleans, a city.", False),
        (
            "It measures the speed and strength of winds",
            "The scale is used to measure how wind speed differs.",
            None,
        ),
        ("It measures the speed and strength of winds", "The scale is used to weigh precious stones.", False),
    ],
)
def test_what_resembles_the_accepted_answer_is_undecided(gold: str, text: str, correct: bool | None) -> None:
    assert verdict(gold, text) is correct


def test_sentences_do_not_end_at_initials() -> None:
    text = "It was E. T. A. Hoffmann, not Dr. Faust. He wrote it!"
    assert [text[start:stop].strip() for start, stop in sentences(text)] == [
        "It was E. T. A. Hoffmann, not Dr. Faust.",
        "He wrote it!",
    ]


def test_own_length_ends_at_the_next_question() -> None:
    assert own_length("Oslo\n\nQuestion: And of Peru?\nAnswer: Lima") == 4
    assert own_length("Oslo is the answer to this question: yes.") == 41


# Alternatives, yes and no, letters


def test_the_question_offers_its_answers() -> None:
    question = "Which opened first, the Louvre or the Prado?"
    assert offered_answers(question) == [("the Louvre",), ("the Prado",)]
    assert offered_answers("What is the capital of Peru?") == []
    assert verdict("the Louvre", "The Prado opened before the Louvre.", question) is False
    assert verdict("the Louvre", "The Prado is younger than the Louvre.", question) is None, "a different comparison"
    assert verdict("the Louvre", "The Prado opened in 1819 and the Louvre in 1793, so the Louvre came first.", question)
    assert verdict("the Louvre", "Of the Louvre and the Prado, the Louvre opened first.", question) is True


@pytest.mark.parametrize(
    ("question", "text", "expected"),
    [
        ("Is tin lighter than lead?", "Tin is lighter than lead.", True),
        ("Is tin lighter than lead?", "Tin isn't lighter than lead.", False),
        ("Can bats see?", "Bats cannot see.", False),
        ("Was Ann born in Lima?", "Ann was born in Lima, not in Quito.", True),
        ("Is tin lighter than lead?", "Lead is lighter than tin.", None),
        ("Does ice float on water?", "Ice floats on water.", True),
        ("Does ice float on water?", "Ice floats on", None),
    ],
)
def test_restated(question: str, text: str, expected: bool | None) -> None:
    assert restated(question, text) is expected


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Yes, they do.", 0),
        ("NO", 1),
        ("Certainly not.", 1),
        ("Yes and no.", None),
        ("Some say no, but the answer is yes.", 0),
        ("Nope.", 1),
        ("No doubt about it: yes.", 0),
        ("The statement is not true.", 1),
        ("The statement is not false.", 0),
        ("Sí.", 0),
        ("Of course.", 0),
        ("They cannot.", 1),
        ("It is.", 0),
        ("It isn't.", 1),
        ("No. Wait, actually yes.", 0),
        ("Some people say no, but: yes.", 0),
        ("While this statement is often claimed to be true, it is false.", 1),
        ("The statement is untrue.", 1),
        ("Perhaps.", None),
    ],
)
def test_yes_and_no_in_many_words(text: str, label: int | None) -> None:
    groups = [["true"], ["false"]] if "statement" in text else [["YES"], ["NO"]]
    asserted = asserted_name(text, groups)
    assert (asserted.value if asserted else None) == label


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("C", 2),
        ("(c)", 2),
        ("c.", 2),
        (r"\boxed{C}", 2),
        (r"The answer is $\boxed{\text{C}}$.", 2),
        ("It's C.", 2),
        ("C is correct.", 2),
        ("Answer: **C**", 2),
        ("C) Bern", 2),
        ("Bern", 2),
        ("答案是C。", 2),
        ("It's c.", 2),
        ("So option (C) is the right answer, and options (A) and (B) are wrong.", 2),
        ("This rules out A and leaves C", 2),
        ("A) Rome: no. B) Oslo: no. C) Bern: yes.", 2),
        ("The third option.", 2),
        ("Option 3", 2),
        ("The last one", 2),
        ("The tenth option", None),
        ("A) Bern", None),
        ("B or C", None),
        ("Both A and B", None),
        ("A beautiful town", None),
        ("None of these", None),
    ],
)
def test_letters_in_any_notation(text: str, choice: int | None) -> None:
    asserted = asserted_choice(text, [["Rome"], ["Oslo"], ["Bern"]])
    assert (asserted.value if asserted else None) == choice


@pytest.mark.parametrize(
    ("question", "text", "name"),
    [
        ("In which country is Alba?", "Alba is in Georgia, USA.", "USA"),
        ("In which country is Alba?", "It is the capital of Georgia, a state of the USA.", "USA"),
        ("In which country is Alba?", "Alba is in Georgia.", "Georgia"),
        ("In which country is Alba?", "Although it is close to the border with Georgia, it is in Peru.", "Peru"),
        ("In which country is Alba?", "Alba, across the river from Georgia, is in Peru.", "Peru"),
        ("In which country is Alba?", "It belonged to Georgia until 1918 and is now in Peru.", "Peru"),
        ("In which country is Alba?", "It was Georgia until 1918 or so, and today it is Peru.", "Peru"),
        ("Which country is the largest?", "Georgia is small and Peru is mountainous. The USA is the largest.", "USA"),
        ("Which country is the largest?", "Peru. Georgia is the second largest country.", "Peru"),
    ],
)
def test_which_of_several_names_is_meant(question: str, text: str, name: str) -> None:
    names = ["Georgia", "Peru", "USA"]
    asserted = asserted_name(text, [[name] for name in names], question)
    assert asserted is not None
    assert names[int(asserted.value)] == name


# Refusals


@pytest.mark.parametrize(
    "text",
    [
        "모르겠습니다.",
        "Δεν ξέρω.",
        "Tôi không biết.",
        "Your guess is as good as mine.",
        "I have no clue.",
        "I am not familiar with this film.",
        "That cannot be determined.",
        "n/a",
        "There isn't anything I can say: there is no information on this.",
        "Sorry, I can't help with this.",
        "Unsure.",
        "I'd need more details to answer.",
        "It is unclear who did it.",
        "No lo sé.",
        "Je ne sais pas.",
        "Das weiß ich nicht.",
        "Não sei.",
        "Я не знаю.",
        "我不知道。",
        "わかりません。",
        "لا أعرف",
        "मुझे नहीं पता",
        "Bilmiyorum.",
    ],
)
def test_refusals(text: str) -> None:
    assert is_refusal(text)
    assert verdict("Lima", text) is None


@pytest.mark.parametrize(
    "text", ["The Great Unknown was painted by Ann.", "Nowhere Man", "He was unable to win in 1990."]
)
def test_answers_that_resemble_refusals(text: str) -> None:
    assert not is_refusal(text)


# Any text, and time


@given(st.text(max_size=200), st.sampled_from(["Lima", "5", "3 km", "May 1989", "yes", "北京"]))
def test_any_text_gets_a_verdict(text: str, gold: str) -> None:
    assert verdict(gold, text, "Is it Lima or Quito?") in (True, False, None)


def test_the_time_is_linear_in_the_length_of_the_text() -> None:
    def seconds(text: str) -> float:
        start = time.perf_counter()
        verdict("Lima", text)
        return time.perf_counter() - start

    piece = "In 1989, about 1,500 men of the city were not in Quito. A) Yes, 3/4 of them. "
    seconds(piece)
    short, long = (min(seconds(piece * n) for _ in range(3)) for n in (20, 200))
    assert long < 40 * short, "ten times the text takes about ten times as long"


def test_accepted_values_are_read_once() -> None:
    values = AcceptedValues.of(("12 km", "May 1989", "Lima"))
    assert values.names == ("12 km", "May 1989", "Lima")
    assert [(q.answer, q.unit) for q in values.quantities] == [("12 km", "kilometer")]
    assert [(date.year, date.month, date.day) for date in values.dates] == [(1989, 5, None)]
