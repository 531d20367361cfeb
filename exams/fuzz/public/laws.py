"""The law of public calls, whole: the call itself, and the remedy of its error."""

from __future__ import annotations

from exams.fuzz.public.advice import faulty_advice
from exams.fuzz.public.doors import Door
from exams.fuzz.public.pools import Call
from exams.fuzz.public.verdicts import Verdict, judge


def checked(door: Door, call: Call) -> Verdict:
    """The verdict on a call, a remedy that does not help included."""
    verdict = judge(door, call)
    if verdict.error is None or door.name.startswith("cli "):  # a command's remedies are for the command line
        return verdict
    fault = faulty_advice(door, call, verdict.error)
    return Verdict("fault", fault, verdict.error) if fault is not None else verdict
