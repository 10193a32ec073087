"""MIMICSQL's five tables: their columns, in order, with the types SQLite gives them.

Source: Wang, Shi and Reddy, "Text-to-SQL Generation for Question Answering on Electronic Medical
Records", WWW 2020, who flatten MIMIC-III into these tables.
"""

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
