"""Settings merged in order, every fault named; components built from nodes of this package only."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from diarize.config import instantiate, load_config, save_config, to_dict
from diarize.errors import ConfigError


@dataclass
class Optimizer:
    """How weights move."""

    learning_rate: float = 1e-3
    betas: list[float] = field(default_factory=lambda: [0.9, 0.98])


@dataclass
class Training:
    """A small tree of settings."""

    max_steps: int = 100
    name: str | None = None
    bf16: bool = False
    optimizer: Optimizer = field(default_factory=Optimizer)
    encoder: dict[str, Any] = field(
        default_factory=lambda: {"_target_": "diarize.encoder.fake.Encoder"}
    )


@dataclass
class EncoderConfig:
    """Settings of the component below."""

    num_layers: int = 2
    optimizer: Optimizer = field(default_factory=Optimizer)

    def __post_init__(self) -> None:
        if self.num_layers < 1:
            raise ConfigError(f"EncoderConfig: num_layers is {self.num_layers}, but not positive.")


class Encoder:
    """What the front end and the encoder look like to `instantiate`."""

    config: EncoderConfig

    def __init__(self, config: EncoderConfig, width: int = 0) -> None:
        self.config = config
        self.width = width


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module ``diarize.encoder.fake``, with a component and two things that are none."""
    module = ModuleType("diarize.encoder.fake")
    vars(module).update(Encoder=Encoder, Plain=Path, number=3)
    monkeypatch.setitem(sys.modules, "diarize.encoder.fake", module)


def yaml(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_need_nothing() -> None:
    assert load_config(Training) == Training()


def test_later_layers_win(tmp_path: Path) -> None:
    first = yaml(
        tmp_path, "max_steps: 2\nname: first\noptimizer:\n  learning_rate: 0.5\n", "a.yaml"
    )
    second = yaml(tmp_path, "name: second\noptimizer: {betas: [0.5, 0.6]}\n", "b.yaml")
    config = load_config(
        Training,
        [first, second],
        ["optimizer.betas=[0.1,0.2]", "bf16=true"],
        values={"max_steps": 1, "name": "values", "bf16": False},
    )
    assert config == Training(2, "second", True, Optimizer(0.5, [0.1, 0.2]))
    assert load_config(Training, overrides=["max_steps=1", "max_steps=2"]).max_steps == 2


def test_result_is_the_dataclass_itself() -> None:
    config = load_config(Training, overrides=["optimizer.learning_rate=1"])
    assert type(config) is Training
    assert type(config.optimizer) is Optimizer
    assert config.optimizer.learning_rate == 1.0
    assert type(config.encoder) is dict


def test_none_is_a_value_where_the_field_allows_it() -> None:
    assert load_config(Training, overrides=["name=null"], values={"name": "x"}).name is None


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert load_config(Training, [yaml(tmp_path, "# nothing\n")]) == Training()


def test_an_open_node_takes_any_key() -> None:
    config = load_config(Training, overrides=["encoder.num_layers=3"])
    assert config.encoder == {"_target_": "diarize.encoder.fake.Encoder", "num_layers": 3}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_step: 3", r"mine\.yaml: max_step is not a setting of Training\. Did you mean max_st"),
        (
            "optimizer: {learning_rat: 3}",
            r"mine\.yaml: optimizer\.learning_rat is not a setting of Optimizer\. Did you mean le",
        ),
        ("colour: red", r"mine\.yaml: colour is not a setting of Training\. It has: max_steps, na"),
        ("max_steps: many", r"mine\.yaml: max_steps: Value 'many' of type 'str' could not be con"),
        ("max_steps: 1.5", r"mine\.yaml: max_steps: Value '1\.5'"),
        ("max_steps:", r"mine\.yaml: max_steps: Incompatible value 'None'"),
        ("bf16: 7x", r"mine\.yaml: bf16: Value '7x'"),
        ("optimizer: {learning_rate: fast}", r"mine\.yaml: optimizer\.learning_rate: Value 'fast'"),
        ("optimizer: {betas: [a]}", r"mine\.yaml: .*Value 'a'"),
        ("optimizer: 3", r"mine\.yaml: .*[Oo]ptimizer"),
        ("- 1", r"mine\.yaml: holds a list, but settings are 'key: value' lines"),
        ("max_steps: [", r"mine\.yaml: is not YAML"),
        ("1: 2", r"mine\.yaml: 1 is not a setting of Training"),
    ],
)
def test_faults_in_a_file_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(Training, [yaml(tmp_path, text + "\n")])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("max_steps", r"'max_steps': an override is written key=value, but there is no '='"),
        ("max_step=3", r"max_step=3: max_step is not a setting.* Did you mean max_steps\?"),
        ("optimizer.beta=3", r"optimizer\.beta is not a setting of Optimizer.*betas"),
        ("max_steps=many", r"max_steps=many: max_steps: Value 'many'"),
        ("max_steps=", r"max_steps=: max_steps: Incompatible value 'None'"),
        ("optimizer.betas=[1", r"'optimizer\.betas=\[1': is not YAML"),
        ("max_steps.x=1", r"max_steps\.x=1: max_steps: "),
    ],
)
def test_faults_in_an_override_are_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(Training, overrides=[override])


def test_faults_in_stored_values_are_named() -> None:
    with pytest.raises(ConfigError, match=r"Training: max_step is not a setting of Training"):
        load_config(Training, values={"max_step": 3})


@dataclass
class Span:
    """Refuses some values of its own."""

    start: float = 0.0
    end: float = 1.0
    step: float | None = None

    def __post_init__(self) -> None:
        if self.end < self.start:
            raise ConfigError(f"start is {self.start:g}, but end is {self.end:g}. Swap them.")
        if self.step == 0:
            raise ConfigError("Span: step is 0, but it moves. Raise it.")
        if self.step == 7:
            raise ConfigError("steps of seven do not fit, but others do. Choose another.")


@dataclass
class Plan:
    """Sections in sections."""

    first: Span = field(default_factory=Span)
    second: Span = field(default_factory=Span)


@dataclass
class Project:
    """Sections in sections in sections."""

    seed: int = 0
    plan: Plan = field(default_factory=Plan)

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}, but it is at least 0. Raise it.")


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        (
            "plan: {second: {start: 2}}",
            [],
            r"\S+mine\.yaml: plan\.second\.start is 2, but end is 1",
        ),
        ("plan: {first: {step: 0}}", [], r"\S+mine\.yaml: plan\.first\.step is 0, but it moves"),
        ("plan: {first: {step: 7}}", [], r"plan\.first: steps of seven do not fit"),
        ("seed: -1", [], r"\S+mine\.yaml: seed is -1, but it is at least 0"),
        # The last layer that sets it is to blame; none is where the key named is a default.
        (
            "plan: {first: {step: 5}}",
            ["plan.first.step=0"],
            r"plan\.first\.step=0: plan\.first\.st",
        ),
        ("plan: {first: {end: -1}}", [], r"plan\.first\.start is 0, but end is -1"),
    ],
)
def test_what_a_section_refuses_is_named(
    tmp_path: Path, text: str, overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        load_config(Project, [yaml(tmp_path, text + "\n")], overrides)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.yaml: cannot be read \(No such file"):
        load_config(Training, [tmp_path / "gone.yaml"])


def test_saved_settings_come_back(tmp_path: Path) -> None:
    config = Training(7, "a: b", True, Optimizer(1e-5, [1.0]), {"_target_": "diarize.x.Y", "a": {}})
    path = tmp_path / "config.yaml"
    save_config(config, path)
    assert load_config(Training, [path]) == config
    assert load_config(Training, values=to_dict(config)) == config
    assert [entry.name for entry in tmp_path.iterdir()] == ["config.yaml"]


def test_dict_is_plain() -> None:
    plain = to_dict(Training())
    assert plain["optimizer"] == {"learning_rate": 1e-3, "betas": [0.9, 0.98]}
    assert type(plain["optimizer"]["betas"]) is list


@pytest.mark.usefixtures("fake")
def test_component_is_built_with_its_config() -> None:
    node = {
        "_target_": "diarize.encoder.fake.Encoder",
        "num_layers": 5,
        "optimizer": {"learning_rate": 0.5},
    }
    built = instantiate(node, width=8)
    assert isinstance(built, Encoder)
    assert built.config == EncoderConfig(5, Optimizer(0.5))
    assert built.width == 8
    assert node["_target_"] == "diarize.encoder.fake.Encoder"


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"num_layer": 3}, r"num_layer is not a setting of EncoderConfig\. Did you mean num_laye"),
        ({"optimizer": {"beta": 1}}, r"optimizer\.beta is not a setting of Optimizer"),
        ({"num_layers": "x"}, r"EncoderConfig: num_layers: Value 'x'"),
        ({"num_layers": 0}, r"num_layers is 0, but not positive"),
    ],
)
def test_faults_in_a_node_are_named(node: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        instantiate({"_target_": "diarize.encoder.fake.Encoder", **node})


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("os.system", r"_target_ is 'os\.system', but only classes of this package"),
        ("diarizer.evil.Class", r"only classes of this package"),
        (
            "diarize.__main__.main",
            r"only .*, 'diarize\.frontend\.…' and 'diarize\.encoder\.…', may",
        ),
        ("diarize.encoder", r"only classes of this package"),
        ("Encoder", r"only classes of this package"),
        ("", r"_target_ is '', but only classes of this package"),
        (
            "diarize.encoder.gone.Encoder",
            r"'diarize\.encoder\.gone\.Encoder' cannot be found \(No module named",
        ),
        (
            "diarize.encoder.fake.Gone",
            r"'diarize\.encoder\.fake\.Gone' cannot be found \(.*no attribute 'Gone'",
        ),
        (
            "diarize.encoder.fake.number",
            r"'diarize\.encoder\.fake\.number' is 'int', but a class is needed",
        ),
        (
            "diarize.encoder.fake.Plain",
            r"'diarize\.encoder\.fake\.Plain' names no dataclass as its config",
        ),
    ],
)
def test_targets_that_are_no_component_are_refused(target: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        instantiate({"_target_": target})


def test_a_node_without_target_is_refused() -> None:
    with pytest.raises(ConfigError, match="_target_ is ''"):
        instantiate({"num_layers": 3})
