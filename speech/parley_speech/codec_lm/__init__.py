"""Published codec language models as data: a `Recipe`, an engine of `parley_speech.lm`, a decoder.

A model of this kind is an ordinary causal language model whose vocabulary has an audio codec's
codes behind its text. All that tells one from another fits into a frozen dataclass.
"""
