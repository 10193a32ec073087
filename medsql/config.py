"""The typed settings behind `conf/`, and every check that needs neither model nor data.

Configuration stops at the doors: each turns the composed configuration into one of these
dataclasses, once (`medsql.composition`). They are not frozen only because OmegaConf cannot fill in
frozen ones; nothing writes to them. A mistake becomes a `SettingsError` of one line that
names the key as the user types it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from medsql.errors import UserError

CONF = Path(__file__).parent.parent / "conf"

SCORES = (
    "exact_match",
    "logical_form",
    "execution",
    "valid",
    "token_f1",
    "token_precision",
    "token_recall",
)
"""What a prediction is scored by: see `medsql.metrics.scores`."""

VALIDATION_METRICS = ("val/loss", *(f"val/{name}" for name in SCORES))
"""What a validation logs, and so what may choose a checkpoint or be a sweep's objective."""

LAST = "last"
"""In the place of a score that chooses a checkpoint: the last one, whatever its scores."""

COSTS = ("parameters",)
"""What a study may keep low while it raises the objective."""

MUTATED = 100
"""Gold queries whose mutants measure the execution score: some 3,000 mutants, a few seconds."""

SOURCES = ("synthetic", "corpus", "medical_text_to_sql", "mimicsql", "jsonl")
PROMPTS = ("report", "schema", "question", "none")
SPLITS = ("train", "validation", "test")
KNOWN_VALUES = ("train", "lists")
OUTPUTS = ("sql", "json")
HOSPITAL = "hospital"
"""The database that is no file: the invented patients of `medsql.data.hospital`."""

FOLDS = 5
"""Parts of a cross-validation: each tests on as many rows as the report's split, a fifth."""

OWN_SOURCES = ("medical_text_to_sql", "mimicsql", "jsonl")
"""Those that read pairs, and make none."""

FURTHER_ROWS: dict[str, tuple[float | None, tuple[str, ...]]] = {
    "augment": (100, ("synthetic", *OWN_SOURCES)),
    "templates": (None, ("mimicsql",)),
    "hospital_epochs": (1000, OWN_SOURCES),
    "hospital_weight": (1000, OWN_SOURCES),
}
"""Data settings that add training rows: the most that each may be, and the sources that it goes with."""


class SettingsError(UserError):
    """A setting that cannot be used; the message is one line that says which and why."""


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise SettingsError(message)


def _check_name(name: str | None) -> None:
    _check(
        name is None or (re.fullmatch(r"[\w=.+-]+", name, re.ASCII) is not None and name.strip(".") != ""),
        f"name={name}: must be a folder's name, of letters, digits and any of _ = . + -",
    )


def _check_choice(key: str, value: str, choices: tuple[str, ...]) -> None:
    _check(value in choices, f"{key}={value}: choose one of {', '.join(choices)}")


def _check_range(key: str, value: float | None, low: float, high: float = float("inf")) -> None:
    """`None` stands for "not set" where a key allows it, and is never out of range."""
    limits = f"at least {low:g}" if high == float("inf") else f"from {low:g} to {high:g}"
    _check(value is None or low <= value <= high, f"{key}={value}: must be {limits}")


@dataclass
class ModelSettings:
    """Which seq2seq checkpoint is fine-tuned.

    `checkpoint` is a hub name, a folder, or `bundled:NAME`, which the package brings along; `fallbacks`
    are tried in order where it does not load. `lacks` are characters that its tokenizer is made to lack.
    """

    name: str
    checkpoint: str
    fallbacks: list[str] = field(default_factory=list)
    dtype: str = "float32"
    lacks: str | None = None

    def __post_init__(self) -> None:
        _check(bool(self.checkpoint), "model.checkpoint is empty: name a hub checkpoint or a folder")
        # T5 overflows in float16, so that is not a choice.
        _check_choice("model.dtype", self.dtype, ("float32", "bfloat16"))
        _check(self.lacks != "", "model.lacks is empty: null leaves the tokenizer as it is")


@dataclass
class LoraSettings:
    """Low-rank adaptation (Hu et al. 2021); `targets: null` trains all weights instead."""

    targets: list[str] | None
    r: int
    alpha: float
    dropout: float
    use_dora: bool = False
    use_rslora: bool = False

    def __post_init__(self) -> None:
        _check(
            self.targets is None or len(self.targets) > 0,
            "lora.targets is empty: lora=none trains all weights",
        )
        _check_range("lora.r", self.r, 1)
        _check(self.alpha > 0, f"lora.alpha={self.alpha:g}: must be greater than 0")
        _check(0 <= self.dropout < 1, f"lora.dropout={self.dropout:g}: must be at least 0 and below 1")
        if self.targets is None:
            _check(
                not (self.use_dora or self.use_rslora),
                "lora.use_dora and lora.use_rslora contradict lora=none, which trains all weights",
            )


@dataclass
class OptimSettings:
    """Optimiser, schedule, and how much of the data a step and a run see.

    One optimisation step sees `batch_size * accumulate` rows. `max_steps`, where set, ends the
    run before `epochs` do, and the schedule decays over what is left. `lr_scale` multiplies `lr`, so that
    configurations keep the ratio of their rates at another scale of model. `group_by_length` puts rows
    of similar length into a batch, which saves padding. `scale_by_size` makes each tensor's learning rate
    that of its first weights' root mean square, as training T5 from nothing needs: its queries begin a
    hundred times smaller than its embeddings (compare Shazeer and Stern 2018, section 8). `beta2` is AdamW's.
    """

    name: str
    lr: float
    weight_decay: float
    schedule: str
    warmup_ratio: float
    max_grad_norm: float | None
    label_smoothing: float
    epochs: int
    batch_size: int
    accumulate: int
    max_steps: int | None = None
    lr_scale: float = 1.0
    group_by_length: bool = False
    scale_by_size: bool = False
    beta2: float = 0.999

    def __post_init__(self) -> None:
        _check_choice("optim.name", self.name, ("adamw", "muon", "adafactor"))
        _check_choice("optim.schedule", self.schedule, ("linear", "cosine", "constant"))
        _check(self.lr > 0, f"optim.lr={self.lr:g}: must be greater than 0")
        _check(0 <= self.beta2 < 1, f"optim.beta2={self.beta2:g}: must be at least 0 and below 1")
        _check(
            self.name != "adafactor" or self.beta2 == 0.999,
            f"optim.beta2={self.beta2:g} contradicts optim=adafactor: AdamW has it, alone or beside Muon",
        )
        _check(self.lr_scale > 0, f"optim.lr_scale={self.lr_scale:g}: must be greater than 0")
        _check_range("optim.weight_decay", self.weight_decay, 0)
        _check_range("optim.warmup_ratio", self.warmup_ratio, 0, 1)
        _check(
            self.max_grad_norm is None or self.max_grad_norm > 0,
            f"optim.max_grad_norm={self.max_grad_norm}: must be greater than 0, or null for no clipping",
        )
        _check(
            0 <= self.label_smoothing < 1,
            f"optim.label_smoothing={self.label_smoothing:g}: must be at least 0 and below 1",
        )
        for key in ("epochs", "batch_size", "accumulate", "max_steps"):
            _check_range(f"optim.{key}", getattr(self, key), 1)


@dataclass
class DataSettings:
    """Where question–SQL pairs come from, how they are split, and what the model is shown.

    `path` is a folder (`mimicsql`), a file or folder (`jsonl`) or a hub name or folder
    (`medical_text_to_sql`). `*_rows` keep the first rows of a split; null keeps all.
    With `split: report`, `fold` makes the test rows one of `FOLDS` parts of the pool, for cross-validation.
    `refit` trains on the validation rows, too, once all else was chosen on them.
    `pairs` and `seed` shape what is generated, the synthetic hospital and the corpus of pretraining,
    and `admissions` the hospital alone. The corpus holds whole prompts and
    splits of its own: it needs `prompt: none` and `split: source`, and `lossless: false`, for its sentinels
    are tokens. `lossless` spells what the model's vocabulary lacks, see `medsql.data.spelling`.

    What else is trained on, never validated or tested: `augment` further versions of each training row, with
    other values (0.5: of every second row); the questions of `templates`, a folder of MIMICSQL's, that have
    the `key` of a training row; the hospital's training rows, `hospital_epochs` times before all others and
    `hospital_weight` times in each epoch of theirs.
    """

    source: str
    split: str
    prompt: str
    path: str | None = None
    max_input_tokens: int = 1024
    max_target_tokens: int = 512
    train_rows: int | None = None
    validation_rows: int | None = None
    test_rows: int | None = None
    fold: int | None = None
    refit: bool = False
    admissions: int = 100
    pairs: int = 2000
    seed: int = 42
    lossless: bool = True
    augment: float = 0
    templates: str | None = None
    hospital_epochs: float = 0
    hospital_weight: float = 0
    cache_dir: str = "~/.cache/medsql"

    def __post_init__(self) -> None:
        _check_choice("data.source", self.source, SOURCES)
        _check_choice("data.split", self.split, ("source", "report"))
        _check_choice("data.prompt", self.prompt, PROMPTS)
        for key, value in (("split", "source"), ("prompt", "none"), ("lossless", False)):
            _check(
                self.source != "corpus" or getattr(self, key) == value,
                f"data.{key}={getattr(self, key)} contradicts data=corpus, which needs data.{key}={value}",
            )
        needs = {"mimicsql": "FOLDER", "jsonl": "FILE-OR-FOLDER", "medical_text_to_sql": "HUB-NAME-OR-FOLDER"}
        if self.source in needs:
            _check(bool(self.path), f"data={self.source} needs data.path={needs[self.source]}")
        for key in ("max_input_tokens", "max_target_tokens", "train_rows", "validation_rows", "test_rows"):
            _check_range(f"data.{key}", getattr(self, key), 1)
        _check_range("data.fold", self.fold, 0, FOLDS - 1)
        _check(
            self.fold is None or self.split == "report",
            f"data.fold={self.fold} contradicts data.split={self.split}: data.split=report has folds",
        )
        _check_range("data.admissions", self.admissions, 10)
        _check_range("data.pairs", self.pairs, 10)
        self._check_further_rows()

    def without_further_rows(self) -> DataSettings:
        """The same source and splits, of which only their own rows are trained on."""
        defaults = {field.name: field.default for field in fields(self) if field.name in FURTHER_ROWS}
        return replace(self, **defaults)  # type: ignore[arg-type]  # each has its field's type

    def _check_further_rows(self) -> None:
        for key, (most, sources) in FURTHER_ROWS.items():
            value = getattr(self, key)
            if most is not None:
                _check_range(f"data.{key}", value, 0, most)
            _check(
                not value or self.source in sources,
                f"data.{key}={value} contradicts data.source={self.source}: "
                f"it goes with {', '.join(sources)}",
            )


@dataclass
class DecodeSettings:
    """How SQL is generated. Length is bounded by `max_new_tokens`, or where that is null by the
    longest training target plus `margin_tokens`, never by the reference.

    With `constrained` only queries of `medsql.sql.grammar` can be written, over MIMICSQL's tables or those in
    `schema`, a file of CREATE TABLE statements; `values` is a JSON file of the literals that columns may be
    compared with, or `train`, those of the training rows.

    `guided` takes the first beam that runs on the schema, says nothing twice and joins no table for
    nothing; with `grounded` those come first whose text values are known or stand in the question, where
    values are then read again. `repair` mends what is taken: columns by other names, and literals that
    stand for one of the column's known values, each word with one typo at most and at least
    `repair_threshold` (0 to 100) like it. `known_values` says whose those are: of the training rows' SQL
    (`train`), of the synthetic hospital's vocabulary (`lists`). `database` is a user's own SQLite file in
    MIMICSQL's tables: beams that find something there come first, and its values are known, too.
    Both judge by MIMICSQL's tables, and so contradict `schema`.
    """

    num_beams: int
    batch_size: int
    margin_tokens: int = 16
    max_new_tokens: int | None = None
    length_penalty: float = 1.0
    constrained: bool = False
    schema: str | None = None
    values: str | None = None
    guided: bool = False
    grounded: bool = False
    repair: bool = False
    repair_threshold: float = 85.0
    known_values: list[str] = field(default_factory=lambda: list(KNOWN_VALUES))
    database: str | None = None

    def __post_init__(self) -> None:
        for key in ("schema", "values"):
            _check(
                self.constrained or getattr(self, key) is None,
                f"decode.{key}={getattr(self, key)} contradicts decode.constrained=false",
            )
        for key in ("guided", "repair"):
            _check(
                self.schema is None or not getattr(self, key),
                f"decode.schema={self.schema} contradicts decode.{key}=true, "
                "which judges by MIMICSQL's tables",
            )
        for key in ("num_beams", "batch_size", "max_new_tokens"):
            _check_range(f"decode.{key}", getattr(self, key), 1)
        _check_range("decode.margin_tokens", self.margin_tokens, 0)
        _check(
            self.num_beams > 1 or self.length_penalty == 1.0,
            f"decode.length_penalty={self.length_penalty:g} contradicts decode.num_beams=1: "
            "only beams are ranked by it",
        )
        _check(
            self.num_beams > 1 or not self.guided,
            "decode.guided=true contradicts decode.num_beams=1: with one beam there is no choice",
        )
        _check(
            not self.grounded or (self.guided and self.repair),
            "decode.grounded=true needs decode.guided=true, whose choice it is, and decode.repair=true",
        )
        _check_range("decode.repair_threshold", self.repair_threshold, 0, 100)
        for source in self.known_values:
            _check_choice("decode.known_values", source, KNOWN_VALUES)
        _check(
            self.database is None or self.guided or self.repair,
            "decode.database is of use with decode.guided=true or decode.repair=true only",
        )

    @property
    def knows_training(self) -> bool:
        """Whether values of the training rows' SQL are known: literals that may be written, or for repair."""
        return self.values == "train" or (self.repair and "train" in self.known_values)


@dataclass
class ValidationSettings:
    """What is measured during training: the loss on all validation rows, and the SQL generated
    for the first `generate_rows` of them (null: all, 0: none), every `every_steps` steps."""

    every_steps: int
    batch_size: int
    generate_rows: int | None
    show: int = 3

    def __post_init__(self) -> None:
        _check_range("validation.every_steps", self.every_steps, 1)
        _check_range("validation.batch_size", self.batch_size, 1)
        _check_range("validation.generate_rows", self.generate_rows, 0)
        _check_range("validation.show", self.show, 0)


@dataclass
class CheckpointSettings:
    """Which checkpoints stay: the last, and the `keep` best by `monitor`. The best is restored.

    With `monitor: last` that is the last.
    """

    monitor: str
    keep: int

    def __post_init__(self) -> None:
        _check_choice("checkpoint.monitor", self.monitor, (*VALIDATION_METRICS, LAST))
        _check_range("checkpoint.keep", self.keep, 1)


@dataclass
class TrainerSettings:
    """Hardware, and nothing that is meant to change a result but for rounding and the draws of dropout."""

    accelerator: str
    precision: str
    threads: int | None = None
    cuda_graphs: bool = True
    tokens_at_once: int = 0

    def __post_init__(self) -> None:
        _check_choice("trainer.accelerator", self.accelerator, ("auto", "cpu", "gpu"))
        _check_choice("trainer.precision", self.precision, ("auto", "float32", "bfloat16"))
        _check_range("trainer.threads", self.threads, 1)
        _check_range("trainer.tokens_at_once", self.tokens_at_once, 0)


@dataclass
class CsvSettings:
    """Metrics in the run folder's `metrics.csv`; there is nothing to set."""


@dataclass
class WandbSettings:
    """One Weights & Biases run per job; `mode: offline` needs no account.

    With `log_model` the trained adapter, or the model where all weights were trained, is an artifact of it.
    """

    project: str = "medsql"
    entity: str | None = None
    group: str | None = None
    mode: str = "online"
    tags: list[str] = field(default_factory=list)
    log_model: bool = True

    def __post_init__(self) -> None:
        _check_choice("logger.wandb.mode", self.mode, ("online", "offline"))


@dataclass
class LoggerSettings:
    """Where metrics go besides the record."""

    csv: CsvSettings | None = None
    wandb: WandbSettings | None = None


@dataclass(kw_only=True)
class FitSettings:
    """What every training is told, fine-tuning and pretraining alike."""

    optim: OptimSettings
    data: DataSettings
    decode: DecodeSettings
    trainer: TrainerSettings
    validation: ValidationSettings
    checkpoint: CheckpointSettings
    seed: int
    objective: str
    logger: LoggerSettings = field(default_factory=LoggerSettings)
    name: str | None = None

    def __post_init__(self) -> None:
        _check_range("seed", self.seed, 0, 2**32 - 1)
        _check_name(self.name)
        _check_choice("objective", self.objective, VALIDATION_METRICS)
        for key, metric in (("objective", self.objective), ("checkpoint.monitor", self.checkpoint.monitor)):
            _check(
                metric in ("val/loss", LAST) or self.validation.generate_rows != 0,
                f"{key}={metric} contradicts validation.generate_rows=0: no SQL is generated to score",
            )
        _check(
            not self.data.refit or self.checkpoint.monitor == LAST,
            f"data.refit=true contradicts checkpoint.monitor={self.checkpoint.monitor}: validation rows that "
            f"are trained on choose no checkpoint; checkpoint.monitor={LAST} takes the last",
        )


@dataclass(kw_only=True)
class TrainSettings(FitSettings):
    """Everything `python -m medsql.train` may be told.

    With `cost: parameters` a sweeper gets the number of trained weights beside the objective.
    With `baseline` the model is scored zero-shot too, once for all runs beside one another that it is the
    baseline of.
    """

    model: ModelSettings
    lora: LoraSettings
    cost: str | None = None
    baseline: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self.cost in (None, *COSTS), f"cost={self.cost}: choose one of null, {', '.join(COSTS)}")


@dataclass
class BaseSettings:
    """A T5 model made from nothing, and its tokenizer.

    `merges` are learned from the first `tokenizer_pairs` of the corpus; pieces that occur fewer than
    `seldom` times there are left out. `likeness` is how alike the embeddings of a piece's variants
    begin, and `copying` how near to handing on what they read the decoder's cross-attentions do.
    """

    d_model: int
    d_kv: int
    d_ff: int
    num_heads: int
    num_layers: int
    merges: int
    tokenizer_pairs: int
    seldom: int
    likeness: float
    copying: float

    def __post_init__(self) -> None:
        for key in ("d_model", "d_kv", "d_ff", "num_heads", "num_layers", "merges", "tokenizer_pairs"):
            _check_range(f"base.{key}", getattr(self, key), 1)
        _check_range("base.seldom", self.seldom, 0)
        for key in ("likeness", "copying"):
            _check_range(f"base.{key}", getattr(self, key), 0, 1)


@dataclass(kw_only=True)
class PretrainSettings(FitSettings):
    """Everything `python -m medsql.pretrain` may be told."""

    base: BaseSettings

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self.data.source == "corpus", f"data={self.data.source}: a base is pretrained on data=corpus")


@dataclass
class EvalSettings:
    """What the execution score runs on.

    `database` is a SQLite file in MIMICSQL's five tables; null: databases made for each gold query, whose
    sharpness is then measured on mutants of `mutated` gold queries. A query on a file may take `seconds`.
    """

    database: str | None = None
    seconds: float = 60.0
    mutated: int = MUTATED

    def __post_init__(self) -> None:
        _check(self.seconds > 0, f"eval.seconds={self.seconds:g}: must be greater than 0")
        _check_range("eval.mutated", self.mutated, 0)


@dataclass
class EvaluateSettings:
    """Everything `python -m medsql.evaluate` may be told.

    `run` is a run folder, or `latest`, the newest finished one; model, data and adapter then come
    from it. `adapter` is a PEFT folder on top of `model`; with neither, the model is scored zero-shot.
    """

    model: ModelSettings
    data: DataSettings
    decode: DecodeSettings
    trainer: TrainerSettings
    eval: EvalSettings
    split: str
    rows: int | None = None
    run: str | None = None
    adapter: str | None = None
    show: int = 3
    name: str | None = None

    def __post_init__(self) -> None:
        _check_choice("split", self.split, SPLITS)
        held_out = self.split == "test" or (self.split == "validation" and not self.data.refit)
        _check(
            held_out or not self.decode.repair or "train" not in self.decode.known_values,
            f"split={self.split} contradicts decode.repair=true: values known from training rows would be "
            "those of gold queries; add decode.known_values=[lists]",
        )
        _check(
            held_out or self.decode.values != "train",
            f"split={self.split} contradicts decode.values=train: the only literals would be those of gold "
            "queries; name a file",
        )
        _check_range("rows", self.rows, 1)
        _check_range("show", self.show, 0)
        _check_name(self.name)


@dataclass(kw_only=True)
class AskSettings:
    """Who answers questions, and where the queries are run.

    `run`, `adapter` and `model` are those of `EvaluateSettings`, but that `run` is the default and gives way
    to the others. Of `data` the prompt, the lengths and the hospital count, and its training rows where
    their values are to be known. Queries are run on `database`, a SQLite file in MIMICSQL's five tables, or
    those of `decode.schema`, or `hospital`, the bundled invented one, which has MIMICSQL's, for at most
    `seconds` each, and `rows` of what they find are shown (null: all).
    """

    model: ModelSettings
    data: DataSettings
    decode: DecodeSettings
    trainer: TrainerSettings
    run: str | None = None
    adapter: str | None = None
    database: str | None = None
    seconds: float = 60.0
    rows: int | None = None

    def __post_init__(self) -> None:
        _check(self.seconds > 0, f"seconds={self.seconds:g}: must be greater than 0")
        _check_range("rows", self.rows, 0)
        _check(
            self.database != HOSPITAL or self.decode.schema is None,
            f"database={HOSPITAL} contradicts decode.schema={self.decode.schema}: the hospital's tables are "
            "MIMICSQL's; name a file with those of the schema, or null",
        )


@dataclass(kw_only=True)
class PredictSettings(AskSettings):
    """Everything `python -m medsql.predict` may be told besides the questions.

    `file` holds questions, one a line. Only `output: json` shows what the queries find.
    """

    output: str
    file: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_choice("output", self.output, OUTPUTS)


@dataclass(kw_only=True)
class DemoSettings(AskSettings):
    """Everything `python -m medsql.demo` may be told.

    The page is served at `host`, on `port` (null: the first free one from 7860 on). Without a finished run
    `run: latest` is none, and the page shows the model as it is.
    """

    host: str
    port: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(bool(self.host.strip()), "host is empty: 127.0.0.1 is this machine alone, 0.0.0.0 everybody")
        _check_range("port", self.port, 1, 65535)


@dataclass
class CompareSettings:
    """Which folders `python -m medsql.compare` puts side by side: runs, evaluations or sweeps.

    Empty: the newest fine-tuned evaluation and the newest zero-shot one of the same rows. The report lands
    in `outputs/`, in a folder called `name` or after what is compared.
    """

    runs: list[str] = field(default_factory=list)
    report: bool = True
    name: str | None = None

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check(
            self.report or self.name is None,
            f"name={self.name} contradicts report=false: the report is what it names",
        )
