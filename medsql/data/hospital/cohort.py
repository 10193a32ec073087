"""Invented patients and their hospital stays, in MIMICSQL's five tables.

Everything follows from `(admissions, seed)`. The rows are consistent: a patient keeps name, sex,
birth and death over all stays, stays do not overlap, death comes at or after the last discharge,
and every row of the other tables belongs to an admission. Dates are shifted the way MIMIC-III's
are: admissions lie between 2100 and 2210, and patients over 89 seem to be 300 years old (their
`DOB_YEAR` is 18xx while `AGE` stays at 89).
"""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from pathlib import Path
from typing import Generic, TypeVar

from medsql.data.hospital import vocabulary
from medsql.sql.schema import TABLES

Value = str | int | float | None
Row = tuple[Value, ...]
Tables = dict[str, list[Row]]

OLDEST_AGE = 89
"""Health data may not tell ages above 89 apart (HIPAA, 45 CFR 164.514); MIMIC-III shifts births instead."""

_TIME = "%Y-%m-%d %H:%M:%S"

Entry = dict[str, str]
T = TypeVar("T")


class Choice(Generic[T]):
    """Draws entries with fixed weights; their running sums are computed once."""

    def __init__(self, entries: Sequence[T], weights: Sequence[float] | None = None) -> None:
        self.entries = entries
        self.sums = list(accumulate(weights or [1.0] * len(entries)))

    @classmethod
    def common_first(cls, entries: Sequence[T]) -> Choice[T]:
        """Weights fall with the root of the rank: milder than Zipf's law, so rare entries occur too."""
        return cls(entries, [rank**-0.5 for rank in range(1, len(entries) + 1)])

    @classmethod
    def by_share(cls, shares: dict[T, int]) -> Choice[T]:
        """Entries with their weights."""
        return cls(list(shares), list(shares.values()))

    def one(self, rng: random.Random) -> T:
        """One entry."""
        return rng.choices(self.entries, cum_weights=self.sums)[0]

    def several(self, rng: random.Random, count: int) -> list[T]:
        """At most `count` different entries, in the order drawn."""
        indices = rng.choices(range(len(self.entries)), cum_weights=self.sums, k=2 * count)
        return [self.entries[index] for index in list(dict.fromkeys(indices))[:count]]


# Shares are round numbers near MIMIC-III's own (Johnson et al., Scientific Data 2016), flattened
# where the rare values would otherwise never appear among a hundred admissions.
_MARITAL_STATUS = Choice.by_share({"MARRIED": 48, "SINGLE": 26, "WIDOWED": 15, "DIVORCED": 9, "SEPARATED": 2})
_LANGUAGE = Choice.by_share(
    {
        "ENGL": 68,
        "SPAN": 8,
        "RUSS": 5,
        "PTUN": 5,
        "CANT": 3,
        "PORT": 3,
        "CAPE": 3,
        "MAND": 2,
        "HAIT": 2,
        "ITAL": 1,
    }
)
_RELIGION = Choice.by_share(
    {
        "CATHOLIC": 36,
        "NOT SPECIFIED": 18,
        "PROTESTANT QUAKER": 14,
        "JEWISH": 10,
        "UNOBTAINABLE": 8,
        "OTHER": 4,
        "EPISCOPALIAN": 3,
        "GREEK ORTHODOX": 2,
        "CHRISTIAN SCIENTIST": 2,
        "BUDDHIST": 1,
        "MUSLIM": 1,
        "ROMANIAN EAST. ORTH": 1,
    }
)
_ETHNICITY = Choice.by_share(
    {
        "WHITE": 56,
        "BLACK/AFRICAN AMERICAN": 12,
        "UNKNOWN/NOT SPECIFIED": 5,
        "HISPANIC OR LATINO": 6,
        "ASIAN": 5,
        "WHITE - RUSSIAN": 3,
        "BLACK/CAPE VERDEAN": 3,
        "HISPANIC/LATINO - PUERTO RICAN": 3,
        "ASIAN - CHINESE": 2,
        "BLACK/HAITIAN": 2,
        "WHITE - BRAZILIAN": 1,
        "AMERICAN INDIAN/ALASKA NATIVE": 1,
        "PORTUGUESE": 1,
    }
)
_INSURANCE = Choice.by_share({"Medicare": 48, "Private": 34, "Medicaid": 10, "Government": 5, "Self Pay": 3})
_ADMISSION_TYPE = Choice.by_share({"EMERGENCY": 66, "ELECTIVE": 22, "URGENT": 12})
_ADMISSION_LOCATION = Choice.by_share(
    {
        "EMERGENCY ROOM ADMIT": 42,
        "PHYS REFERRAL/NORMAL DELI": 22,
        "CLINIC REFERRAL/PREMATURE": 18,
        "TRANSFER FROM HOSP/EXTRAM": 14,
        "TRANSFER FROM SKILLED NUR": 2,
        "TRSF WITHIN THIS FACILITY": 2,
    }
)
_DISCHARGE_LOCATION = Choice.by_share(
    {
        "HOME": 32,
        "HOME HEALTH CARE": 26,
        "SNF": 17,
        "REHAB/DISTINCT PART HOSP": 12,
        "LONG TERM CARE HOSPITAL": 5,
        "SHORT TERM HOSPITAL": 3,
        "DISCH-TRAN TO PSYCH HOSP": 2,
        "LEFT AGAINST MEDICAL ADVI": 2,
        "HOSPICE-HOME": 1,
    }
)


_NAMES = {
    kind: Choice([e["name"] for e in vocabulary.read("names") if e["kind"] == kind])
    for kind in ("female", "male", "last")
}
_LAB_ITEMS = vocabulary.read("lab_items")


class Catalogue:
    """What may happen to one kind of patient: a `female` or `male` adult, or a `newborn`."""

    def __init__(self, kind: str) -> None:
        allowed = ("newborn", "any") if kind == "newborn" else (kind, "adult", "any")

        def entries(name: str) -> list[Entry]:
            return [entry for entry in vocabulary.read(name) if entry["patients"] in allowed]

        self.reasons = Choice.common_first(entries("admission_diagnoses"))
        self.diagnoses = Choice.common_first(entries("diagnoses"))
        self.procedures = Choice.common_first(entries("procedures"))
        self.drugs = Choice(entries("drugs"))


@dataclass(frozen=True)
class Patient:
    """What stays the same over all admissions of one person. `born` is the shifted birth date."""

    subject_id: str
    name: str
    gender: str
    kind: str
    born: datetime
    marital_status: str | None
    language: str | None
    religion: str
    insurance: str
    ethnicity: str


@dataclass(frozen=True)
class Stay:
    """One admission; `died` only where the patient left the hospital dead."""

    hadm_id: str
    admitted: datetime
    discharged: datetime
    died: bool


def generate_tables(admissions: int, seed: int) -> Tables:
    """`admissions` hospital stays as rows in the column order of `medsql.sql.schema.TABLES`."""
    rng = random.Random(seed)
    catalogues = {kind: Catalogue(kind) for kind in ("female", "male", "newborn")}
    subject_ids = iter(rng.sample(range(1, max(100_000, 10 * admissions)), admissions))
    hadm_ids = iter(rng.sample(range(100_000, max(200_000, 10 * admissions)), admissions))
    tables: Tables = {table: [] for table in TABLES}
    while (missing := admissions - len(tables["DEMOGRAPHIC"])) > 0:
        kind = "newborn" if rng.random() < 0.1 else rng.choice(("female", "male"))
        count = 1 if kind == "newborn" else rng.choices((1, 2, 3, 4), (78, 14, 6, 2))[0]
        stays, death = _stays(rng, kind, [str(next(hadm_ids)) for _ in range(min(count, missing))])
        patient = _patient(rng, str(next(subject_ids)), kind, stays)
        for stay in stays:
            _add_stay(rng, tables, catalogues[kind], patient, stay, death)
    return tables


def _stays(rng: random.Random, kind: str, hadm_ids: list[str]) -> tuple[list[Stay], datetime | None]:
    """One person's stays in order of time, and the day of death if there was one."""
    fate = (
        "lives" if kind == "newborn" else rng.choices(("lives", "dies here", "dies later"), (62, 12, 26))[0]
    )
    stays = []
    admitted = datetime(rng.randint(2101, 2199), 1, 1) + timedelta(minutes=rng.randrange(365 * 24 * 60))
    for hadm_id in hadm_ids:
        hours = 24 * min(int(rng.lognormvariate(1.8, 0.85)), 120) + rng.uniform(2, 23)
        discharged = admitted + timedelta(minutes=int(hours * 60))
        stays.append(
            Stay(hadm_id, admitted, discharged, died=fate == "dies here" and hadm_id == hadm_ids[-1])
        )
        admitted = discharged + timedelta(minutes=rng.randint(7 * 1440, 900 * 1440))
    if fate == "lives":
        return stays, None
    days = 0 if fate == "dies here" else rng.randint(1, 2500)
    return stays, _midnight(stays[-1].discharged + timedelta(days=days))


def _patient(rng: random.Random, subject_id: str, kind: str, stays: list[Stay]) -> Patient:
    newborn = kind == "newborn"
    sex = rng.choice(("female", "male")) if newborn else kind
    return Patient(
        subject_id=subject_id,
        name=f"{_NAMES[sex].one(rng)} {_NAMES['last'].one(rng)}",
        gender="F" if sex == "female" else "M",
        kind=kind,
        born=_midnight(stays[0].admitted) if newborn else _birth(rng, stays),
        marital_status=None if newborn else _MARITAL_STATUS.one(rng),
        language=None if newborn or rng.random() < 0.2 else _LANGUAGE.one(rng),
        religion=_RELIGION.one(rng),
        insurance=rng.choice(("Private", "Medicaid")) if newborn else _INSURANCE.one(rng),
        ethnicity=_ETHNICITY.one(rng),
    )


def _birth(rng: random.Random, stays: list[Stay]) -> datetime:
    """An adult's birth, moved to 300 years before the first stay if it would tell an age above 89."""
    year = timedelta(days=365.2425)
    age = 18 + rng.betavariate(2.6, 1.6) * 76
    born = stays[0].admitted - age * year
    return _midnight(stays[0].admitted - 300 * year if _age(born, stays[-1].admitted) > OLDEST_AGE else born)


def _midnight(time: datetime) -> datetime:
    return time.replace(hour=0, minute=0, second=0, microsecond=0)


def _age(born: datetime, at: datetime) -> int:
    return at.year - born.year - ((at.month, at.day) < (born.month, born.day))


def _add_stay(
    rng: random.Random,
    tables: Tables,
    catalogue: Catalogue,
    patient: Patient,
    stay: Stay,
    death: datetime | None,
) -> None:
    """Append the rows of one admission to all five tables."""
    tables["DEMOGRAPHIC"].append(_demographic(rng, catalogue, patient, stay, death))
    key = (patient.subject_id, stay.hadm_id)
    for table, entries, count in (
        ("DIAGNOSES", catalogue.diagnoses, rng.randint(3, 14)),
        ("PROCEDURES", catalogue.procedures, rng.randint(0, 7)),
    ):
        for entry in entries.several(rng, count):
            tables[table].append((*key, entry["code"], entry["short_title"], entry["long_title"]))
    icu_stay = str(rng.randint(200_000, 299_999))
    for drug in catalogue.drugs.several(rng, rng.randint(6, 24)):
        route, dose = (rng.choice(drug[column].split(",")) for column in ("routes", "doses"))
        dose = dose.replace(" ", "")
        tables["PRESCRIPTIONS"].append(
            (*key, icu_stay, drug["type"], drug["drug"], drug["code"], route, dose)
        )
    minutes = int((stay.discharged - stay.admitted).total_seconds() // 60)
    for item in rng.sample(_LAB_ITEMS, rng.randint(12, 40)):
        taken = stay.admitted + timedelta(minutes=rng.randrange(minutes))
        tables["LAB"].append(
            (*key, item["item_id"], taken.strftime("%Y-%m-%d %H:%M:00"), *_lab_result(rng, item))
        )


def _demographic(
    rng: random.Random, catalogue: Catalogue, patient: Patient, stay: Stay, death: datetime | None
) -> Row:
    newborn = patient.kind == "newborn"
    born, admitted = patient.born, stay.admitted
    row: dict[str, Value] = {
        "SUBJECT_ID": patient.subject_id,
        "HADM_ID": stay.hadm_id,
        "NAME": patient.name,
        "MARITAL_STATUS": patient.marital_status,
        "AGE": min(_age(born, admitted), OLDEST_AGE),
        "DOB": born.strftime(_TIME),
        "GENDER": patient.gender,
        "LANGUAGE": patient.language,
        "RELIGION": patient.religion,
        "ADMISSION_TYPE": "NEWBORN" if newborn else _ADMISSION_TYPE.one(rng),
        "DAYS_STAY": (stay.discharged - stay.admitted).days,
        "INSURANCE": patient.insurance,
        "ETHNICITY": patient.ethnicity,
        "EXPIRE_FLAG": int(death is not None),
        "ADMISSION_LOCATION": _ADMISSION_LOCATION.one(rng),
        "DISCHARGE_LOCATION": "DEAD/EXPIRED"
        if stay.died
        else "HOME"
        if newborn
        else _DISCHARGE_LOCATION.one(rng),
        "DIAGNOSIS": catalogue.reasons.one(rng)["diagnosis"],
        "DOD": death.strftime(_TIME) if death else None,
        "DOB_YEAR": born.year,
        "DOD_YEAR": float(death.year) if death else None,
        "ADMITTIME": admitted.strftime(_TIME),
        "DISCHTIME": stay.discharged.strftime(_TIME),
        "ADMITYEAR": admitted.year,
    }
    return tuple(row[column] for column in TABLES["DEMOGRAPHIC"])


def _lab_result(rng: random.Random, item: Entry) -> tuple[str | None, str, str, str, str]:
    """FLAG, VALUE_UNIT, LABEL, FLUID and CATEGORY; about a third of the results are abnormal."""
    low, high = float(item["low"]), float(item["high"])
    width = (high - low) or 1.0
    value = rng.gauss((low + high) / 2, width / 2)
    value = value if low < 0 else max(value, 0.0)
    flag = None if low <= value <= high else "abnormal"
    if flag is None and rng.random() < 0.05:
        flag = "delta"
    digits = 0 if width >= 50 else 1 if width >= 2 else 2
    return flag, f"{value:.{digits}f}{item['unit']}", item["label"], item["fluid"], item["category"]


def listed_values() -> dict[tuple[str, str], Sequence[str]]:
    """What the lists give the columns of words, by table and column; names of patients are not among them."""
    listed: dict[tuple[str, str], Sequence[str]] = {
        ("DEMOGRAPHIC", "MARITAL_STATUS"): _MARITAL_STATUS.entries,
        ("DEMOGRAPHIC", "LANGUAGE"): _LANGUAGE.entries,
        ("DEMOGRAPHIC", "RELIGION"): _RELIGION.entries,
        ("DEMOGRAPHIC", "ETHNICITY"): _ETHNICITY.entries,
        ("DEMOGRAPHIC", "INSURANCE"): _INSURANCE.entries,
        ("DEMOGRAPHIC", "ADMISSION_TYPE"): [*_ADMISSION_TYPE.entries, "NEWBORN"],
        ("DEMOGRAPHIC", "ADMISSION_LOCATION"): _ADMISSION_LOCATION.entries,
        ("DEMOGRAPHIC", "DISCHARGE_LOCATION"): [*_DISCHARGE_LOCATION.entries, "DEAD/EXPIRED"],
        ("DEMOGRAPHIC", "GENDER"): ["F", "M"],
        ("LAB", "FLAG"): ["abnormal", "delta"],
    }
    read = {
        ("DEMOGRAPHIC", "DIAGNOSIS"): ("admission_diagnoses", "diagnosis"),
        ("PRESCRIPTIONS", "DRUG_TYPE"): ("drugs", "type"),
        ("PRESCRIPTIONS", "DRUG"): ("drugs", "drug"),
        ("LAB", "LABEL"): ("lab_items", "label"),
        ("LAB", "FLUID"): ("lab_items", "fluid"),
        ("LAB", "CATEGORY"): ("lab_items", "category"),
    }
    for table in ("DIAGNOSES", "PROCEDURES"):
        read |= {(table, name.upper()): (table.lower(), name) for name in ("short_title", "long_title")}
    listed |= {key: [entry[name] for entry in vocabulary.read(file)] for key, (file, name) in read.items()}
    routes = [route for entry in vocabulary.read("drugs") for route in entry["routes"].split(",")]
    return listed | {("PRESCRIPTIONS", "ROUTE"): list(dict.fromkeys(routes))}


def write_cohort(path: str | Path, admissions: int, seed: int) -> Path:
    """Write the cohort to a new SQLite file; an older file there is replaced in one step."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    partial.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(partial)) as connection:
            insert(connection, generate_tables(admissions, seed))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def in_memory(tables: Tables) -> sqlite3.Connection:
    """The same tables in a SQLite database that lives in this process only."""
    connection = sqlite3.connect(":memory:")
    insert(connection, tables)
    return connection


def insert(connection: sqlite3.Connection, tables: Tables) -> None:
    """Create the five tables in an empty database and insert the rows."""
    with connection:
        for table, columns in TABLES.items():
            declared = ", ".join(f'"{name}" {kind}' for name, kind in columns.items())
            connection.execute(f"CREATE TABLE {table} ({declared})")
            marks = ", ".join("?" * len(columns))
            connection.executemany(f"INSERT INTO {table} VALUES ({marks})", tables[table])
            connection.execute(f"CREATE INDEX {table}_HADM_ID ON {table} (HADM_ID)")
