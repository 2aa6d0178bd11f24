"""By what the models of each task are compared."""

from trefoil.tasks.metrics.language_modeling import perplexity
from trefoil.tasks.metrics.paired import ACCURACY, ENTITY_F1, Measure, bleu

MEASURES = {
    "text-classification": ACCURACY,
    "token-classification": ENTITY_F1,
    "translation": bleu(),
    # of blocks of the text: nats, and words
    "causal-lm": Measure("word_perplexity", None, lambda sums: perplexity(sums[0] / sums[1]), is_minimized=True),
}
