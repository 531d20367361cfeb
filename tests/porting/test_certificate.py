import json

import pytest

from frostline.porting.certificate import Certificate, Check, Mapped, Run, sentences

MAPPING = (
    Mapped("a.weight", ("x/kernel",), "(in, out) to (out, in)", "x", "a", "names", 0.5, "0" * 64),
    Mapped("a.bias", (), "constant 0", "x", "a", "names", 0.5, "1" * 64),
)
RUNS = (Run("golden outputs", 4, 1e-7, 1e-5, 6),)
CHECKS = (Check("n", "eps", "differs", "0.001 in the file, 1e-05 in the module"), Check("n", "padding", "unknown", "?"))


def certificate(**fields):
    proven, tested, unknown = sentences(MAPPING, fields.get("runs", ()), fields.get("checks", ()))
    values = {"kept": (), "unused": (), "dropped": {}, "checks": (), "runs": (), "notes": ("a wrapper",)} | fields
    return Certificate(
        "f.h5", "2" * 64, "Keras", "keras", "Net", MAPPING, proven=proven, tested=tested, unknown=unknown, **values
    )


def test_it_comes_back_from_json():
    made = certificate(runs=RUNS, checks=CHECKS, kept=("head",), dropped={"m": "optimizer slot"})
    assert Certificate.from_dict(json.loads(json.dumps(made.as_dict()))) == made
    with pytest.raises(ValueError, match="another version"):
        Certificate.from_dict({**made.as_dict(), "schema": 0})
    with pytest.raises(ValueError, match="edited after it was written"):
        Certificate.from_dict({**made.as_dict(), "proven": "everything"})
    with pytest.raises(TypeError, match="without its tables"):
        Certificate.from_dict(certificate(files=3).as_dict())


def test_pairs_assigned_by_numbers_alone_are_listed():
    mapping = (
        Mapped("ups.0.weight", ("up_1/kernel",), "as it is", "up_1", "ups.0", "numbers in names", 0.1, "0" * 64),
    )
    _, tested, _ = sentences(mapping, (), ())
    assert "1 by numbers alone, which may count from either end of a network: 'up_1 to ups.0'" in tested


def test_equal_names_are_named_as_the_evidence():
    mapping = (Mapped("a.weight", ("a.weight",), "as it is", "a", "a", "the same name", 1.0, "0" * 64),)
    _, tested, _ = sentences(mapping, (), ())
    assert tested == "nothing was run; layers were distinguished by the same name."


def test_the_sentences_state_what_is_proven_tested_and_unknown():
    bare = certificate()
    assert bare.proven.startswith("each of 2 tensors was written once")
    assert "1 are constants" in bare.proven
    assert bare.tested == "nothing was run; layers were distinguished by names."
    assert "whether the module computes what the source network does" in bare.unknown
    assert "the order of a flatten" in bare.unknown
    assert "epsilon" in bare.unknown
    compared = certificate(checks=CHECKS)
    assert "does not state: the order of a flatten;" in compared.unknown
    run = certificate(runs=RUNS, checks=CHECKS)
    assert (
        "agree with golden outputs on 4 samples (relative difference 1.0e-07, allowed 1e-05), in which 6" in run.tested
    )
    assert run.unknown == "padding of 'n': ?."


def test_a_summary_for_people():
    text = certificate(checks=CHECKS, kept=("head",), unused=("top",), dropped={"m": "optimizer slot"}).text()
    for line in ("f.h5 (Keras) -> Net: 2 tensors of 1 layers.", "  a wrapper", "Kept:    head (not in the file)",
                 "Unused:  top (not in the module)", "Dropped: 1 tensors (optimizer slot)",
                 "Differs: eps of 'n': 0.001 in the file, 1e-05 in the module"):  # fmt: skip
        assert line in text
    assert text.count("padding of 'n'") == 1
    assert certificate().units() == {"x": "a"}
    assert "f.h5 (Keras, with 1 other file) -> Net" in certificate(files={"a": ""}).text()
    assert "f.h5 (Keras, with 2 other files) -> Net" in certificate(files={"a": "", "b": ""}).text()
