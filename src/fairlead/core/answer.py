# SPDX-License-Identifier: Apache-2.0
"""What a receiver with the library answers: the *answer*, the stale problem, the batch's results.

Design, section 6, "Answer"; interface, sections 7 and 8. The receiver writes these documents, the relay reads
them. Over REST one delivery's reply is its status and one of these as the body:

    200 applied, duplicate, fence · 422 rejected · 503 failed   an answer
    425 chain                                                  an answer with our problem `type`
    409 stale                                                  `Stale`: no answer, for nothing was decided
    207 batch                                                  `Result` per event, each with the status and
                                                               the body that its event would have got alone
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec

from fairlead.errors import PROBLEM_URN, ChainBroken, InvalidRequest
from fairlead.errors import Stale as StaleProblem

AnswerResult = Literal["applied", "duplicate", "failed", "rejected", "chain", "fence"]
Count = Annotated[int, msgspec.Meta(ge=0, le=10**18 - 1)]
"""At most 18 digits, as on a delivery: whoever answers may lie, and a store holds no number beyond 2**63."""

ANSWERS_HEADER, ARRAY = "fairlead-answers", "array"
"""A delivery on a bus that has this header comes from a relay whose reply queue takes arrays of answers."""
MOST_ANSWERS = 1000  # in one array
MOST_ANSWER_BYTES = 1024 * 1024  # of one body: whoever writes into a reply queue is not known beforehand
MOST_DETAIL_LETTERS = 2000

CHAIN_URN = PROBLEM_URN + ChainBroken.type
STATUS: dict[AnswerResult, int] = {
    "applied": 200,
    "duplicate": 200,
    "fence": 200,
    "rejected": 422,
    "chain": 425,
    "failed": 503,
}


# gc=False, as of whatever a delivery brings along: it is in no cycle, and thousands are held at once
class AnswerDocument(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What a receiver says of one delivery that is not stale.

    Attributes:
        subscription, partition: the channel.
        generation, epoch, seq: those of the delivery; `seq` on a bus only.
        key: the ordering key; None for a fence.
        result: what came of it.
        applied: max(what is applied for the key, the floor): every position of the key up to it is settled in
            `generation`; None for a fence, which settles nothing.
        detail: one sentence for people (a `Reject`'s reason); never more than that.
        type: our problem type where the answer is also a problem (`chain`).
    """

    subscription: str
    partition: Count
    generation: Count
    epoch: Count
    seq: Count | None = None
    key: str | None = None
    result: AnswerResult
    applied: Count | None = None
    detail: str | None = None
    type: str | None = None

    @property
    def status(self) -> int:
        """The HTTP status that goes with the result."""
        return STATUS[self.result]

    def encode(self) -> bytes:
        """The answer as JSON; members that do not apply are left out."""
        return _encode(self)


class Stale(msgspec.Struct, frozen=True, kw_only=True):
    """The 409 of a receiver that has seen a newer (generation, epoch): the inbox's pair."""

    type: Literal["urn:fairlead:problem:stale"]  # required, so that another 409 is never taken for ours
    title: str = StaleProblem.title
    status: int = 409
    generation: Count
    epoch: Count

    @classmethod
    def of(cls, generation: int, epoch: int) -> Stale:
        """The problem that names the inbox's pair."""
        return cls(type="urn:fairlead:problem:stale", generation=generation, epoch=epoch)

    def encode(self) -> bytes:
        """The problem as JSON."""
        return _encode(self)


_NOTHING = msgspec.Raw(b"")


class Result(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event's share of a 207.

    Attributes:
        status: as for a single delivery.
        retry_after: whole seconds, as the header of a single delivery.
        answer: the body of a single delivery, undecoded; empty for none.
    """

    partition: Count
    position: Count
    status: Annotated[int, msgspec.Meta(ge=100, le=599)]
    retry_after: Count | None = None
    answer: msgspec.Raw = _NOTHING


class _Results(msgspec.Struct, frozen=True):
    results: list[Result]


def parse_answer(body: bytes) -> AnswerDocument:
    """Read one answer; unknown members are ignored.

    Raises:
        InvalidRequest: it is not an answer; `detail` says what is wrong.
    """
    answer: AnswerDocument = _decode(body, _answer, "an answer")
    _check_whole(answer)
    return answer


def parse_answers(body: bytes) -> list[AnswerDocument]:
    """Read one answer, or an array of them. Raises as `parse_answer`."""
    if not body.lstrip().startswith(b"["):
        return [parse_answer(body)]
    answers: list[AnswerDocument] = _decode(body, _array, "an array of answers")
    for answer in answers:
        _check_whole(answer)
    return answers


def _check_whole(answer: AnswerDocument) -> None:
    if answer.result != "fence" and (answer.key is None or answer.applied is None):
        raise InvalidRequest(f"not an answer: result {answer.result!r} needs key and applied")


def parse_stale(body: bytes) -> Stale:
    """Read the 409 of a receiver. A 409 without our problem type raises.

    Raises:
        InvalidRequest: it is another document.
    """
    stale: Stale = _decode(body, _stale, "a stale problem")
    return stale


def parse_chain(body: bytes) -> AnswerDocument:
    """Read the 425 of a receiver: our problem type and the members of the answer, or it is another's.

    Raises:
        InvalidRequest: it is another document.
    """
    answer = parse_answer(body)
    if answer.type != CHAIN_URN or answer.result != "chain":
        raise InvalidRequest("not a chain problem")
    return answer


def parse_results(body: bytes) -> list[Result]:
    """Read the body of a 207, of the library or of anybody else who answers per event.

    Raises:
        InvalidRequest: it is another document.
    """
    document: _Results = _decode(body, _results, "a 207 document")
    return document.results


def encode_results(results: Sequence[Result]) -> bytes:
    """The body of a 207."""
    return _encode(_Results(list(results)))


def _decode(body: bytes, decoder: msgspec.json.Decoder[Any], what: str) -> Any:
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"not {what}: {error}") from error


_encode = msgspec.json.Encoder().encode
_answer = msgspec.json.Decoder(AnswerDocument)
_array = msgspec.json.Decoder(list[AnswerDocument])
_stale = msgspec.json.Decoder(Stale)
_results = msgspec.json.Decoder(_Results)
