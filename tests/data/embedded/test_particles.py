import pytest

from trefoil.data.embedded.particles import PAIRS, final_consonant, particle


@pytest.mark.parametrize(
    ("pair", "attached"),
    [
        ("은/는", ["책은", "사과는", "서울은", "3은", "2는", "TV는", "PDF는", "RPM은"]),
        ("이/가", ["물이", "회의가", "1이", "4가", "9가", "10이"]),
        ("을/를", ["원을", "개를", "6을", "5를", "1,000을", "0을", "URL을"]),
        ("과/와", ["권과", "자루와", "마리와", "8과", "2와"]),
        (
            "으로/로",
            ["부산으로", "제주로", "서울로", "15일로", "30분으로", "정오로", "1로", "7로", "8로", "3으로", "URL로"],
        ),
        ("이에요/예요", ["원이에요", "개예요", "내일이에요", "모레예요"]),
        ("이라는/라는", ["지훈이라는", "민수라는"]),
        ("이나/나", ["두 번이나", "세 개나"]),
    ],
)
def test_particles_by_hand(pair, attached):
    for expected in attached:
        form = max((each for each in pair.split("/") if expected.endswith(each)), key=len)
        assert particle(expected.removesuffix(form), pair) == form


@pytest.mark.parametrize(
    ("word", "final"),
    [
        *[("값", "ㅄ"), ("닭", "ㄺ"), ("꽃", "ㅊ"), ("길", "ㄹ"), ("나", ""), ("km", "ㅁ")],
        *[("10", "ㅂ"), ("300", "ㄱ"), ("5,000", "ㄴ"), ("20,000", "ㄴ"), ("1000000000000", "")],
        *[("3.10", "ㅇ"), ("2.7", "ㄹ"), ("010", "ㅇ"), ("14:32", "")],
    ],
)
def test_final_consonants_by_hand(word, final):
    assert final_consonant(word) == final


def test_an_unknown_pair_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'는/은'.*은/는"):
        particle("책", "는/은")


@pytest.mark.parametrize("word", ["", "책!", "ㅋ", "本"])
def test_a_word_without_a_known_reading_is_refused(word):
    with pytest.raises(ValueError, match="is read at its end"):
        particle(word, "은/는")


def test_pairs_are_written_consonant_first():
    for pair in PAIRS:
        assert particle("책", pair) + "/" + particle("사과", pair) == pair
