"""The bench of the floor: conversations in virtual time, and what the papers would say of them.

scenarios/*.yaml   what happens in a family of conversations, and to whom
scene              one conversation as data; ``families`` makes them from the YAML, by seed
utterances         a user's words as sound, with the true begin and end of every voice
noises             sounds that are nobody's words
line               the wire between user and agent: cues, echo, noise, telephone
lockstep           the recogniser of a call in virtual time, with modelled delays
play               one conversation of the real engine, tick by tick
follow             what was heard of a reply, to the sample
outcome            what became of each of the user's sounds
fdb, fdb15, tau, sweep, ours   the metrics
goals, table, page, compare    the report
run                many conversations over processes
"""

from __future__ import annotations
