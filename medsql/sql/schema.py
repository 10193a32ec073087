"""MIMICSQL's five tables: their columns, in order, with the types SQLite gives them.

Source: Wang, Shi and Reddy, "Text-to-SQL Generation for Question Answering on Electronic Medical
Records", WWW 2020, who flatten MIMIC-III into these tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

TABLES: dict[str, dict[str, str]] = {
    "DEMOGRAPHIC": {
        "SUBJECT_ID": "TEXT",
        "HADM_ID": "TEXT",
        "NAME": "TEXT",
        "MARITAL_STATUS": "TEXT",
        "AGE": "INTEGER",
        "DOB": "TEXT",
        "GENDER": "TEXT",
        "LANGUAGE": "TEXT",
        "RELIGION": "TEXT",
        "ADMISSION_TYPE": "TEXT",
        "DAYS_STAY": "INTEGER",
        "INSURANCE": "TEXT",
        "ETHNICITY": "TEXT",
        "EXPIRE_FLAG": "INTEGER",
        "ADMISSION_LOCATION": "TEXT",
        "DISCHARGE_LOCATION": "TEXT",
        "DIAGNOSIS": "TEXT",
        "DOD": "TEXT",
        "DOB_YEAR": "INTEGER",
        "DOD_YEAR": "REAL",
        "ADMITTIME": "TEXT",
        "DISCHTIME": "TEXT",
        "ADMITYEAR": "INTEGER",
    },
    "DIAGNOSES": {
        "SUBJECT_ID": "TEXT",
        "HADM_ID": "TEXT",
        "ICD9_CODE": "TEXT",
        "SHORT_TITLE": "TEXT",
        "LONG_TITLE": "TEXT",
    },
    "PROCEDURES": {
        "SUBJECT_ID": "TEXT",
        "HADM_ID": "TEXT",
        "ICD9_CODE": "TEXT",
        "SHORT_TITLE": "TEXT",
        "LONG_TITLE": "TEXT",
    },
    "PRESCRIPTIONS": {
        "SUBJECT_ID": "TEXT",
        "HADM_ID": "TEXT",
        "ICUSTAY_ID": "TEXT",
        "DRUG_TYPE": "TEXT",
        "DRUG": "TEXT",
        "FORMULARY_DRUG_CD": "TEXT",
        "ROUTE": "TEXT",
        "DRUG_DOSE": "TEXT",
    },
    "LAB": {
        "SUBJECT_ID": "TEXT",
        "HADM_ID": "TEXT",
        "ITEMID": "TEXT",
        "CHARTTIME": "TEXT",
        "FLAG": "TEXT",
        "VALUE_UNIT": "TEXT",
        "LABEL": "TEXT",
        "FLUID": "TEXT",
        "CATEGORY": "TEXT",
    },
}

REPORT_NAMES: dict[str, dict[str, str]] = {
    "DEMOGRAPHIC": {
        "DATE_OF_BIRTH": "DOB",
        "DAYS_OF_HOSPITAL_STAY": "DAYS_STAY",
        "DEATH_STATUS": "EXPIRE_FLAG",
        "PRIMARY_DISEASE": "DIAGNOSIS",
        "DATE_OF_DEATH": "DOD",
        "YEAR_OF_BIRTH": "DOB_YEAR",
        "YEAR_OF_DEATH": "DOD_YEAR",
        "ADMISSION_TIME": "ADMITTIME",
        "DISCHARGE_TIME": "DISCHTIME",
        "ADMISSION_YEAR": "ADMITYEAR",
    },
    "DIAGNOSES": {
        "DIAGNOSES_ICD9_CODE": "ICD9_CODE",
        "DIAGNOSES_SHORT_TITLE": "SHORT_TITLE",
        "DIAGNOSES_LONG_TITLE": "LONG_TITLE",
    },
    "PROCEDURES": {
        "PROCEDURE_ICD9_CODE": "ICD9_CODE",
        "PROCEDURE_SHORT_TITLE": "SHORT_TITLE",
        "PROCEDURE_LONG_TITLE": "LONG_TITLE",
    },
    "PRESCRIPTIONS": {
        "DRUG_NAME": "DRUG",
        "DRUG_CODE": "FORMULARY_DRUG_CD",
        "DRUG_ROUTE": "ROUTE",
    },
    "LAB": {
        "LAB_TEST_CHART_TIME": "CHARTTIME",
        "LAB_TEST_ABNORMAL_STATUS": "FLAG",
        "LAB_TEST_VALUE": "VALUE_UNIT",
        "LAB_TEST_NAME": "LABEL",
        "LAB_TEST_FLUID": "FLUID",
        "LAB_TEST_CATEGORY": "CATEGORY",
    },
}
"""The descriptive names by which the published report's prompt calls columns, and the real ones."""


@dataclass(frozen=True)
class Schema:
    """Tables with their columns' types, and what they may be joined by.

    `keys` holds sets of (table, column): columns of one set mean the same thing, so any two of their tables
    may be joined where these are equal.
    """

    tables: Mapping[str, Mapping[str, str]]
    keys: tuple[tuple[tuple[str, str], ...], ...]


MIMICSQL = Schema(TABLES, (tuple((table, "HADM_ID") for table in TABLES),))
"""Joined by the admission, the one column that every table has and DEMOGRAPHIC has once a row."""
