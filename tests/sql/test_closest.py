"""A literal is taken for a known value where it is another writing of it, and only for one."""

import time

import pytest

from medsql.sql.closest import KnownValues

ABBREVIATIONS = {
    "ac": "acute",
    "fx": "fracture",
    "nos": "not otherwise specified",
    "w/o": "without",
    "w": "with",
}
VALUES = [
    "Ac kidney failure NOS",
    "Ac kidney failure NOS",
    "Fx femur, closed",
    "Hypothyroidism",
    "Hyperthyroidism",
    "DMI keto nt st uncntrld",
    "Diabetes mellitus, type I",
    "Aspirin 81 mg",
    "Reticulocyte Count, Manual",
    "Reticulocyte Count, Automated",
    "Anemia w/o bleeding",
    "Subendo infarct, initial",
    "SPAN",
    "Vitamin B",
    "Portal hypertension",
    "Orthostatic hypotension",
    "Hypoglycemia NOS",
    "Hypovolemia",
    "Hyperparathyroidism NOS",
    "Hypothyroidism NOS",
    "Urin tract infection NOS",
    "Fever, unspecified",
    "Typical pneumonia",
    "Prednisone",
    "Omeprazole",
    "Insulin 70/30",
    "Cont inv mec ven 96+ hrs",
    "NB <500g",
    "Heparin 1-25 mg",
    "0.45% Sodium Chloride",
    "Bupivacaine 5%",
    "Days 5",
    "Days (-3)",
    "Dextrose 5% sodium 10%",
]
WORDS = {"injection"}  # of another column


STEMS = ("glomerulo", "entero", "osteo", "neuro", "adeno")
ENDS = ("pathy", "sclerosis", "lysis", "genesis", "megaly")


def closest(literal, values=VALUES, threshold=85.0):
    return KnownValues(values, ABBREVIATIONS, WORDS).closest(literal, threshold)


@pytest.mark.parametrize(
    ("literal", "value", "difference"),
    [
        ("hypothyroidism", "Hypothyroidism", "case"),
        ("REticulocyte  count, manual", "Reticulocyte Count, Manual", "case"),
        ("acute kidney failure, not otherwise specified", "Ac kidney failure NOS", "wording"),
        ("closed fracture femur", "Fx femur, closed", "wording"),
        ("Fracture femur (closed)", "Fx femur, closed", "wording"),
        ("SPANISH", "SPAN", "spelling"),
        ("subendocardial infarction, initial", "Subendo infarct, initial", "spelling"),
        ("Hypothyroidsm", "Hypothyroidism", "spelling"),
        ("acute kidny falure nos", "Ac kidney failure NOS", "spelling"),
        ("asprin 81 mg", "Aspirin 81 mg", "spelling"),
        ("anemia without bleedng", "Anemia w/o bleeding", "spelling"),
        ("Portal hypertensoin", "Portal hypertension", "spelling"),
        ("Urin tract infectoin NOS", "Urin tract infection NOS", "spelling"),
        ("70/30 insulin", "Insulin 70/30", "wording"),
        ("continuous inv mec ven 96+ hrs", "Cont inv mec ven 96+ hrs", "spelling"),
        ("sodium chloride 0.45 %", "0.45% Sodium Chloride", "wording"),
        ("insulin 70-30", "Insulin 70/30", "wording"),
        ("Dextrose 5%, sodium 10%", "Dextrose 5% sodium 10%", "wording"),
    ],
)
def test_another_writing_of_a_value_is_that_value(literal, value, difference):
    assert closest(literal) == (value, difference)


@pytest.mark.parametrize(
    "literal",
    [
        "Diabetes mellitus, type II",
        "Aspirin 80 mg",
        "aspirin",
        "Vitamin D",
        "anemia with bleeding",
        "Reticulocyte Count, Corrected",
        "Reticulocyte Count",
        "kidney failure",
        "chronic kidney failure NOS",
        "Hxthyroidism",
        "Portal hypotension",
        "Orthostatic hypertension",
        "Hyperglycemia NOS",
        "Hypervolemia",
        "Hypoparathyroidism NOS",
        "Hyperthyroidism NOS",
        "Urin tract injection NOS",
        "Fever, specified",
        "Atypical pneumonia",
        "Prednisolone",
        "Esomeprazole",
        "Insulin 30/70",
        "Cont inv mec ven <96 hrs",
        "Cont inv mec ven 96 hrs",
        "NB >500g",
        "NB <=500g",
        "Heparin 1.25 mg",
        "sodium chloride, -0.45%",
        "sodium chloride, +0.45%",
        "sodium chloride 45%",
        "Bupivacaine .5%",
        "Days ≥5",
        "Days 3",
        "sodium 5% dextrose 10%",
        "5% dextrose sodium 10%",  # which it would be: but there is no telling whose number is whose
        "S",
        "81",
        "",
        "'; DROP TABLE LAB; --",
    ],
)
def test_another_value_is_not_taken_for_a_known_one(literal):
    assert closest(literal) is None


def test_of_two_that_are_equally_close_neither_is_taken():
    assert closest("Hyprthyroidism", ["Hyperthyroidism", "Hypurthyroidism"]) is None
    assert closest("Hyprthyroidism", ["Hyperthyroidism"]) is not None


def test_of_values_that_differ_in_capitals_alone_the_first_is_taken():
    values = KnownValues(["PHENYLEPHrine", "Phenylephrine"], {})
    assert values.closest("phenylephrine", 85) == ("PHENYLEPHrine", "case")
    assert "Phenylephrine" in values and "phenylephrine" not in values


def test_the_threshold_is_the_callers():
    assert closest("Hypothyreidism", threshold=90) == ("Hypothyroidism", "spelling")
    assert closest("Hypothyreidism", threshold=95) is None


def test_a_search_among_ten_thousand_values_is_quick():
    words = [f"{first}{last}" for first in STEMS for last in ENDS]
    values = [f"{first} {second} {third}" for first in words for second in words for third in words]
    known = KnownValues(values, ABBREVIATIONS)
    assert known.closest(values[7].replace("pathy", "patty", 1), 85) == (values[7], "spelling")
    started = time.perf_counter()
    for value in values[:50]:
        known.closest(f"{value[:5]}{value[6:]}", 85)
    assert (time.perf_counter() - started) / 50 < 0.1, "some 2 ms on an idle core"
