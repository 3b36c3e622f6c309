"""The YAML file of a study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from ovd_bench.benchmarks.data.files.documents import first_problem
from ovd_bench.benchmarks.data.strict_model import StrictModel
from ovd_bench.benchmarks.data.text import printable, unknown_name
from ovd_bench.benchmarks.training.config import Positive, read_document
from ovd_bench.metrics.errors import DataError

#: Folder of the shipped studies.
DEFINITIONS = Path(__file__).with_name("definitions")

#: Names of folders.
_Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
_Sentence = Annotated[str, Field(min_length=1, max_length=400)]
#: Keys of a training configuration, nested ones joined by dots, with their values.
Changes = dict[str, Any]


class Arm(StrictModel):
    """One of the compared models.

    Attributes:
        name: of the arm, and of its folder.
        about: description, in one sentence.
        base: training configuration of this arm, if it is another one than the study's; see ``Study.base``.
        changes: to that configuration.
        published: published numbers of its counterpart, by setting.
    """

    name: _Name
    about: _Sentence
    base: Annotated[str, Field(min_length=1)] | None = None
    changes: Changes = Field(default={})
    published: dict[str, Annotated[float, Field(allow_inf_nan=False)]] = Field(default={})


class Probe(StrictModel):
    """Another evaluation of the trained models, with other prompts or another vocabulary; only AP is measured.

    Attributes:
        name: of the probe, and of its folder.
        about: its question, in one sentence.
        prompts: prompt plan: a name, or a YAML file (relative to the study's).
        vocabulary: classes given for an image, as in ``bench run --vocabulary``.
    """

    name: _Name
    about: _Sentence
    prompts: Annotated[str, Field(min_length=1)] = "names"
    vocabulary: Literal["full", "present", "verified"] = "full"

    @model_validator(mode="after")
    def _asks_otherwise(self) -> Probe:
        if self.prompts == "names" and self.vocabulary == "full":
            raise ValueError(f"probe '{self.name}' asks the same as the study: give 'prompts' or 'vocabulary'")
        return self


class Published(StrictModel):
    """Source of the published numbers of the arms.

    Attributes:
        source: paper and table.
        about: their model and data.
    """

    source: _Sentence
    about: _Sentence


class Study(StrictModel):
    """A comparison of trainings that differ in one thing.

    Attributes:
        name: of the study, and of its folder.
        question: in one sentence.
        base: training configuration, by the name of a shipped one or as a path (relative to the study's file); needed
            unless every arm has its own.
        shared: changes for all arms, the budget included.
        controlled: whether all arms must share backbone, text encoder, data, order and budget, to the byte, so that the
            difference is one of design; see ``benchmarks.studies.controlled``.
        benchmark: as in ``bench run -b``; a path may be relative to the study's file.
        limit: only this many of its images, for quick studies; the report says so.
        reference: name of the arm that the others are compared with.
        seeds: each arm is trained once with each seed.
        arms: see there.
        probes: see there.
        judge: sentence encoder for the similarity of names (semantic R-precision): ``minilm``, which is
            packaged, or a folder (a path may be relative to the study's file); none = not measured.
        speed: whether operations, time and memory of an image are measured, once per arm.
        published: needed if an arm has published numbers.
    """

    name: _Name
    question: _Sentence
    base: Annotated[str, Field(min_length=1)] | None = None
    shared: Changes = Field(default={})
    controlled: bool = False
    benchmark: Annotated[str, Field(min_length=1)]
    limit: Positive | None = None
    reference: _Name
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**32)], ...], Field(strict=False, min_length=1)]
    arms: Annotated[tuple[Arm, ...], Field(strict=False, min_length=2)]
    probes: Annotated[tuple[Probe, ...], Field(strict=False)] = ()
    judge: Annotated[str, Field(min_length=1)] | None = None
    speed: bool = False
    published: Published | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Study:
        names = [arm.name for arm in self.arms]
        seeds, probes = [str(seed) for seed in self.seeds], [probe.name for probe in self.probes]
        for what, entries in (("arm", names), ("seed", seeds), ("probe", probes)):
            if twice := [entry for entry in entries if entries.count(entry) > 1]:
                raise ValueError(f"{what} '{twice[0]}' occurs twice")
        if without := [arm.name for arm in self.arms if not (arm.base or self.base)]:
            raise ValueError(f"arm '{without[0]}' has no base, and the study has none: give one")
        if self.reference not in names:
            raise ValueError(f"reference '{self.reference}' is not an arm: the arms are {', '.join(names)}")
        if self.published is None and any(arm.published for arm in self.arms):
            raise ValueError("an arm has published numbers: 'published' must say where they are from")
        for place in (self.shared, *(arm.changes for arm in self.arms)):
            if "seed" in place or "trainer" in place:
                raise ValueError(
                    "seed and trainer cannot be changed: 'seeds' lists the seeds, the base names the trainer"
                )
        return self

    def base_of(self, arm: Arm) -> str:
        """The training configuration that an arm changes."""
        return arm.base or self.base or ""

    def arm(self, name: str) -> Arm:
        """An arm by name.

        Raises:
            DataError: no such arm.
        """
        found = next((arm for arm in self.arms if arm.name == name), None)
        if found is None:
            known = [arm.name for arm in self.arms]
            raise DataError(unknown_name(f"study '{self.name}' has no arm '{printable(name)}'", printable(name), known))
        return found


def shipped_studies() -> list[Path]:
    """Files of the shipped studies."""
    return sorted(DEFINITIONS.glob("*.yaml"))


def find_study(name: str) -> Path:
    """Path of a study: a file, or the name of a shipped one.

    Raises:
        DataError: neither.
    """
    if Path(name).suffix in (".yaml", ".yml") or Path(name).is_file():
        return Path(name)
    shipped = {path.stem: path for path in shipped_studies()}
    if name not in shipped:
        others = f"name a YAML file, or one of {', '.join(shipped)}"
        raise DataError(unknown_name(f"no study '{printable(name)}'", printable(name), shipped, others))
    return shipped[name]


def read_study(path: Path) -> Study:
    """Read a study's YAML file.

    Raises:
        DataError: no such file, no YAML, an unknown key, or inconsistent values; one line.
    """
    document = read_document(path)
    try:
        return Study.model_validate(document)
    except ValidationError as error:
        raise DataError(f"{path}: {first_problem(error)}{_hint(error)}") from None


def _hint(error: ValidationError) -> str:
    """Hint with the valid keys, if a key is unknown."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if first["type"] != "extra_forbidden":
        return ""
    parts: dict[str, type[BaseModel]] = {"arms": Arm, "published": Published, "probes": Probe}
    part = parts.get(str(first["loc"][0]), Study) if len(first["loc"]) > 1 else Study
    return f": the keys are {', '.join(part.model_fields)}"
