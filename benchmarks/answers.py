"""Questions answered without a model: the words of a text around which most of the question stands (the sliding window of Richardson
et al. 2013, as Rajpurkar et al. 2016, §5.1, take it for spans).

    python -m benchmarks.answers RECIPE [KEY=VALUE …]

Scored is the test split of a recipe for question-answering. A candidate is one to four words in a row, with and without the last character
of the last of them, which may be a particle; its score is the weight of those pairs of characters that the question has and that stand
within twelve words of it, by 1 / (1 + the distance in words), less those in it. A pair weighs -log of the share of texts that have it.
"""

import argparse
import math
import re
from collections import Counter
from collections.abc import Iterator

from trefoil.data.loading import load_split
from trefoil.recipes.schema import load_recipe
from trefoil.tasks.metrics.question_answering import AnswerQuality
from trefoil.training.run import make_reader

LONGEST = 4  # words of an answer
AROUND = 12  # words on either side


def pairs_of(text: str) -> set[str]:
    return {text[start : start + 2] for start in range(len(text) - 1) if not text[start : start + 2].isspace()}


def candidates(text: str) -> Iterator[tuple[int, int, int, int]]:
    """First and last word, and the characters from and to which they stand."""
    words = [match.span() for match in re.finditer(r"\S+", text)]
    for first in range(len(words)):
        for last in range(first, min(first + LONGEST, len(words))):
            start, end = words[first][0], words[last][1]
            yield first, last, start, end
            if end - start > 1:
                yield first, last, start, end - 1


def answer(question: str, text: str, weights: dict[str, float]) -> str:
    asked = pairs_of(question)
    words = [asked & pairs_of(word) for word in re.findall(r"\S+", text)]

    def score(candidate: tuple[int, int, int, int]) -> float:
        first, last, *_ = candidate
        near: dict[str, float] = {}
        for number in range(max(0, first - AROUND), min(len(words), last + 1 + AROUND)):
            distance = max(first - number, number - last, 0)
            near |= {pair: max(near.get(pair, 0.0), 1 / (1 + distance)) for pair in words[number]}
        near |= dict.fromkeys(set().union(*words[first : last + 1]), -1.0)
        return sum(share * weights.get(pair, 0.0) for pair, share in near.items())

    _, _, start, end = max(candidates(text), key=score)
    return text[start:end]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", metavar="RECIPE")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    options = parser.parse_args()
    recipe = load_recipe(options.recipe, options.overrides)
    reader = make_reader(recipe)
    rows = reader.by_role(
        load_split(recipe.data, recipe.data.test_split, reader.columns(), recipe.task, recipe.seed)[:]
    )
    texts = set(rows["context"])
    count = Counter(pair for text in texts for pair in pairs_of(text))
    weights = {pair: math.log(len(texts) / number) for pair, number in count.items()}
    answers = [answer(*pair, weights) for pair in zip(rows["question"], rows["context"], strict=True)]
    references = [list(right["text"]) for right in rows["answers"]]
    scores = AnswerQuality(keep_in_memory=True).compute(predictions=answers, references=references)
    print({name: round(value, 2) for name, value in scores.items() if isinstance(value, float)})


if __name__ == "__main__":
    main()
