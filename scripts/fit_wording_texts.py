"""Turns that fit_wording.py learns from: sentences drawn from a small grammar, cut at every place.

None of them is a sentence of the bench: those stay unseen.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from fit_overlap_texts import phrases


def _rules(listed: str) -> dict[str, list[str]]:
    found = {}
    for line in " ".join(listed.split()).split(";"):
        name, _, ways = line.strip().partition("=")
        if name:
            found[name.strip()] = [way.strip() for way in ways.split("|")]
    return found


GRAMMAR = _rules("""
TURN = ASK | ASK | WANT | WANT | TELL | TELL | TELL TAIL | WANT TAIL | ASK TAIL | ORDER |
  ORDER TAIL | NUMBERED | SHORT | SHORT | ANSWER | STORY ;
TAIL = TIME | PLACE | please | REASON | TIME please | for PERSON ;
ASK = AUX SUBJ2 VP | WH AUX SUBJ2 VI | is there NP PLACE | are there THINGS PLACE | AUX you VP |
  what is ADJNOUN | what kind of THINGS do you have | do you VT NP | how do i VP | how far is it to
  DEF | where can i VP | is NP ADJ | could you tell me WHCLAUSE | do you know WHCLAUSE |
  can you tell me WHCLAUSE | what about NP | how many THINGS can i VT | why is NP ADJ |
  when does DEF VI | who is in charge of DEF | may i VP | would it be possible to VP ;
WANT = i want to VP | i'd like to VP | i would like NP | i need NP | i need to VP |
  we would like to VP | i am trying to VP | i was hoping to VP | i'm calling about NP |
  i wanted to ask WHCLAUSE | we need NP | i'd like NP | let me VP | i have to VP ;
TELL = NP is ADJ | NP was ADJ | i have NP | i VTP NP | we VTP NP | they VTP NP PLACE | it is ADJ |
  it's NP | that is NP | my name is NAME | i think NP is ADJ | i am ADJ | we are PLACE | NP VIP |
  i don't VT NP | she VTP NP | he said that NP is ADJ | the problem is that NP VIP |
  there is NP PLACE | i've lost NP | we never VTP NP | i didn't VT NP | i am not sure WHCLAUSE ;
ORDER = send NP to PERSON | show me NP | VT NP | tell me about NP | call me TIME | turn off DEF |
  put NP PLACE | remind me to VP | look for NP PLACE | give me NP | cancel DEF | set DEF to DIGITS |
  find me NP PLACE | read me DEF ;
NUMBERED = my NUM is DIGITS | the NUM is DIGITS | it's DIGITS | DIGITS | please call PERSON on
  DIGITS
  | i live at DIGITS STREET | the code is DIGITS ;
STORY = TELL and TELL | TELL but TELL | TELL so TELL | when NP VIP i VTP NP | if NP is ADJ i VT NP |
  TELL because TELL | after i VTP NP NP VIP | TELL and then TELL ;
REASON = because NP is ADJ | because i VTP NP | if that is possible | if you have one | so that i
  VP ;
WHCLAUSE = whether NP is ADJ | how much NP costs | when NP opens | where DEF is | if you VT NP |
  what NP costs | how i can VP | why NP is ADJ | whether you VT NP | how long it takes to VP ;
VP = VT NP | VT NP PLACE | VT NP TIME | VI | VI PLACE | VI TIME | VT NP for PERSON | speak to
  PERSON ;
SUBJ2 = i | you | we | they | DEF | PERSON ;
NP = DEF | DEF | DEF | DEF of DEF | a NOUN | an old NOUN | QUANT THINGS | some THINGS | another
  NOUN |
  PERSON | the ADJ NOUN | my ADJ NOUN | DEF from PERSON | DEF PLACE | it | them | this | something |
  two of them | one of DEF ;
DEF = the NOUN | my NOUN | your NOUN | our NOUN | the NOUN NOUN | the other NOUN | the ADJ one ;
ADJNOUN = DEF | the ADJ NOUN | the next NOUN | the best NOUN for PERSON ;
QUANT = two | three | five | seven | a few | many | more | ten | twelve ;
AUX = can | could | will | would | do | did | should | have ;
WH = when | where | how | why | what time | how long | how often ;
""")
WORDS = _rules("""
VT = check | change | cancel | send | return | buy | sell | book | find | see | get | open | close |
  move | repair | pay | track | order | keep | bring | cook | understand | print | choose |
  collect |
  reserve | take | use | try | make | have | need | report | hear | eat | learn | borrow | clean ;
VTP = ordered | bought | lost | found | sent | broke | received | wanted | saw | asked for | paid
  for
  | returned | booked | cancelled | forgot | got | needed | opened | called about | heard | tried ;
VI = come | leave | arrive | wait | pay | begin | drive | call back | finish | work | stay | go
  home |
  log in | travel | cook | walk | start again | go there | sleep ;
VIP = stopped | is gone | does not work | came late | did not arrive | never came | was empty |
  fell |
  broke | has changed | went wrong | is missing | was stolen | makes a noise ;
NOUN = bill | invoice | account | card | room | table | ticket | flight | car | bicycle | kitchen |
  lamp | window | door | dog | doctor | letter | message | picture | key | coat | house | sofa |
  phone | computer | price | menu | meeting | contract | package | shop | bridge | song | film |
  recipe | garden | bank | passport | bag | chair | machine | appointment | hotel | dinner | radio |
  river | jacket | refund | guitar | language | market | platform | receipt | discount | heating ;
THINGS = tickets | rooms | books | people | chairs | apples | letters | days | boxes | questions |
  flowers | friends | cups | keys | lessons | bags | eggs | pictures | glasses ;
ADJ = broken | ready | late | open | closed | cheap | free | green | too small | very loud | wrong |
  new | heavy | cold | full | different | expensive | black | empty | good | busy | correct |
  empty ;
PERSON = my wife | my brother | the manager | someone | a friend | anna | peter | my mother | the
  boss
  | the driver | him | her | them | me | my daughter | julia smith | a colleague | nobody ;
NAME = anna | peter brown | julia | thomas green | laura | david miller | susan ;
TIME = today | tomorrow | on monday | on friday morning | at nine | at half past seven | next week |
  in the evening | before christmas | after lunch | this afternoon | on the second of may |
  tonight |
  two days ago | last month | at noon | in an hour | again | now | every day | soon | yet ;
PLACE = in the city | at home | near the river | on the first floor | at the office | in london |
  here
  | there | next to the bank | from spain | in the north | at the airport | outside | on the list |
  in the kitchen | behind the house | to paris | with me | online | under the table ;
NUM = number | account number | phone number | telephone | code | date of birth | zip code ;
STREET = park road | high street | king street | river lane | bridge street | elm avenue ;
SHORT = no that's wrong | that is right | i don't know | not today | the second one | just one |
  maybe later | that's all | i am not sure | not yet | nothing else | yes that's fine | a bit
  later |
  of course | never mind | the green one | both | neither | about ten | it's me | i will | four |
  what is it | who is that | are you there | how much is it | can you help me | what was that ;
ANSWER = yes | no | hello | okay | thank you | yes please | no thanks | sure | goodbye | right |
  good morning | stop | hi | correct | exactly | all right | yeah | thanks | wait | hello there
""")
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "oh"]
FILLERS = phrases(
    "um | uh | er | well | i mean | you know | no sorry | or no | let me see | sorry | hm"
)
_NAME = re.compile(r"^[A-Z]+2?$")


class Turns:
    """Draws turns."""

    def __init__(self, seed: int) -> None:
        self.r = random.Random(seed)

    def turn(self) -> list[str]:
        """Its words; now and then with hesitations, which a turn may begin with but not end."""
        words = self._expand("TURN").split()
        if self.r.random() < 0.25:
            for _ in range(self.r.choice((1, 1, 2))):
                at = self.r.randrange(len(words))
                words[at:at] = self.r.choice(FILLERS).split()
        return words

    def _expand(self, symbol: str) -> str:
        if symbol == "DIGITS":
            return " ".join(self.r.choices(DIGITS, k=self.r.randint(2, 6)))
        way = self.r.choice(GRAMMAR.get(symbol) or WORDS[symbol])
        return " ".join(self._expand(w) if _NAME.match(w) else w for w in way.split())

    def cut(self, words: list[str]) -> int:
        """Where somebody pauses in it: anywhere, more often before a phrase than within one."""
        places = range(1, len(words))
        weights = [
            2.0 if words[at] in _BEFORE or words[at - 1] in _BEHIND else 1.0 for at in places
        ]
        return self.r.choices(places, weights)[0]


_BEFORE = frozenset(phrases("""
to | at | on | in | for | from | with | and | but | because | so | that | whether | when | if
| the | my | a
"""))  # fmt: skip
_BEHIND = frozenset(phrases("""
um | uh | er | well | mean | is | sorry | hm | and | but | so | because | that
"""))  # fmt: skip


def examples(words: list[str]) -> Iterator[tuple[str, bool, float]]:
    """(text, whole, weight): the turn, and all its beginnings, which together count as much."""
    yield " ".join(words), True, 1.0
    for at in range(1, len(words)):
        yield " ".join(words[:at]), False, 1.0 / (len(words) - 1)
