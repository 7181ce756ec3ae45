"""From changed files to models, on real commits."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path

import pytest

from modelguard.blobs.git_object import first_bytes
from modelguard.changes import SMALL, group, not_followed, removed_weights
from modelguard.git import Git
from modelguard.types.changes import ChangedFile, ModelChange, ModelKind
from tests.repositories import Content, Link, Repository, Submodule, by_subject, pointer_to
from tests.weights import encode, random, raw, sharded

WEIGHTS = encode(random(0, {"a": (40, 40)}))
OTHER = encode(random(1, {"a": (40, 40)}))
CARD = b"---\nbase_model: org/name\n---\n"
SHARDS = sharded([random(1, {"a": (40, 40)}), random(2, {"b": (40, 40)})])
ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
PICKLED = pickle.dumps([0.5] * SMALL, protocol=4)


class Change:
    """A merge base and a head, and what `group` makes of them."""

    def __init__(self, path: Path) -> None:
        self.repository = Repository(path)
        self.git = Git(path)
        self.files: tuple[ChangedFile, ...] = ()

    def __call__(self, before: Mapping[str, Content], after: Mapping[str, Content]) -> dict[str, ModelChange]:
        base, head = self.repository.commit(before), self.repository.commit(after)
        self.files = self.git.changed(base, head)
        models = group(self.files, self.git.tree(head), self.git.tree(base), lambda entry: first_bytes(self.git, entry, None, 512))
        assert [model.subject for model in models] == sorted(model.subject for model in models)
        return by_subject(models)


@pytest.fixture
def change(tmp_path: Path) -> Iterator[Change]:
    made = Change(tmp_path / "repo")
    yield made
    made.git.close()


def in_directory(directory: str, files: Mapping[str, bytes]) -> dict[str, Content]:
    return {f"{directory}/{name}": content for name, content in files.items()}


def test_a_new_single_file_with_its_papers(change: Change) -> None:
    files = {"model.safetensors": WEIGHTS, "README.md": CARD, "config.json": b"{}", "trainer_state.json": b"{}", "vocab.txt": b"x"}
    models = change({"code.py": b"1"}, in_directory("m", files))
    assert models == {
        "m/model.safetensors": ModelChange(
            subject="m/model.safetensors",
            kind=ModelKind.SINGLE,
            entry="m/model.safetensors",
            before_entry=None,
            card="m/README.md",
            config="m/config.json",
            adapter_config=None,
            logs=("m/trainer_state.json",),
            touched=("m/README.md", "m/config.json", "m/model.safetensors", "m/trainer_state.json"),
            weights_touched=True,
        )
    }


def test_code_alone_concerns_no_model(change: Change) -> None:
    assert change({"model.safetensors": WEIGHTS, "a.py": b"1"}, {"a.py": b"2", "docs/README.md": b"3", "data.txt": b"x" * 9000}) == {}


def test_changed_weights_have_a_before(change: Change) -> None:
    model = change({"model.safetensors": WEIGHTS}, {"model.safetensors": OTHER})["model.safetensors"]
    assert (model.before_entry, model.weights_touched, model.touched) == ("model.safetensors", True, ("model.safetensors",))


@pytest.mark.parametrize("paper", ["README.md", "config.json", "trainer_state.json", "logs/loss.csv"])
def test_a_changed_paper_alone_concerns_the_model(paper: str, change: Change) -> None:
    before = {"m/model.safetensors": WEIGHTS, f"m/{paper}": b"1"}
    model = change(before, {f"m/{paper}": b"2"})["m/model.safetensors"]
    assert (model.weights_touched, model.touched, model.before_entry) == (False, (f"m/{paper}",), "m/model.safetensors")


@pytest.mark.parametrize("paper", ["README.md", "config.json", "trainer_state.json", "logs/loss.csv"])
def test_a_removed_paper_concerns_the_model(paper: str, change: Change) -> None:
    model = change({"m/model.safetensors": WEIGHTS, f"m/{paper}": b"1"}, {f"m/{paper}": None})["m/model.safetensors"]
    assert model.touched == (f"m/{paper}",)
    assert (model.card, model.config, model.logs) == (None, None, ())


def test_a_sharded_model_is_one_model_touched_by_any_shard(change: Change) -> None:
    files = in_directory("m", SHARDS)
    (model,) = change({}, files).values()
    assert (model.kind, model.entry, len(model.touched)) == (ModelKind.SHARDED, "m/model.safetensors.index.json", 3)
    (model,) = change({}, {f"m/{TWO}": OTHER}).values()
    assert (model.entry, model.touched, model.weights_touched) == ("m/model.safetensors.index.json", (f"m/{TWO}",), True)
    (model,) = change({}, {f"m/{TWO}": None}).values()
    assert (model.entry, model.touched, model.weights_touched) == ("m/model.safetensors.index.json", (f"m/{TWO}",), True)
    assert removed_weights(change.files) == (f"m/{TWO}",)


def test_shards_without_an_index_are_models_of_their_own(change: Change) -> None:
    models = change({}, {ONE: WEIGHTS, TWO: OTHER})
    assert {subject: model.kind for subject, model in models.items()} == {ONE: ModelKind.SINGLE, TWO: ModelKind.SINGLE}
    models = change(dict(SHARDS), {"model.safetensors.index.json": None})
    assert models == {}
    assert removed_weights(change.files) == ("model.safetensors.index.json",)


def test_shards_in_a_directory_with_an_odd_name(change: Change) -> None:
    (model,) = change({}, in_directory("odd\nna\udcffme -x", SHARDS)).values()
    assert model.kind is ModelKind.SHARDED
    assert len(model.touched) == 3


def test_a_single_file_beside_an_index_is_audited_too(change: Change) -> None:
    models = change({}, {**SHARDS, "model.safetensors": WEIGHTS})
    assert {model.kind for model in models.values()} == {ModelKind.SHARDED, ModelKind.SINGLE}


def test_several_models_keep_their_own_papers(change: Change) -> None:
    files: dict[str, Content] = {"README.md": CARD, "loss.csv": b"step,loss\n"}
    for name in ("m/a", "m/a-b", "m/a/inner", "z"):
        files |= {f"{name}/model.safetensors": WEIGHTS, f"{name}/trainer_state.json": b"{}", f"{name}/runs/events.out.tfevents.1": b""}
    files["z/README.md"] = CARD
    models = change({}, files)
    for name in ("m/a", "m/a-b", "m/a/inner", "z"):
        model = models[f"{name}/model.safetensors"]
        assert model.logs == (f"{name}/runs/events.out.tfevents.1", f"{name}/trainer_state.json")
        assert model.card == ("z/README.md" if name == "z" else "README.md")
    assert list(change({}, {"m/a/trainer_state.json": b"[]"})) == ["m/a/model.safetensors"]
    assert list(change({}, {"z/README.md": b"new"})) == ["z/model.safetensors"]
    assert len(change({}, {"README.md": b"new"})) == 3
    assert change({}, {"loss.csv": b"new"}) == {}


def test_a_model_at_the_root_takes_the_logs_below_it_but_not_those_of_checkpoints(change: Change) -> None:
    files = {
        "model.safetensors": WEIGHTS,
        "logs/loss.csv": b"",
        "checkpoint-5/model.safetensors": WEIGHTS,
        "checkpoint-5/trainer_state.json": b"{}",
    }
    models = change({}, files)
    assert models["model.safetensors"].logs == ("logs/loss.csv",)
    assert models["checkpoint-5/model.safetensors"].logs == ("checkpoint-5/trainer_state.json",)


def test_an_adapter(change: Change) -> None:
    model = change({}, {"lora/adapter_model.safetensors": WEIGHTS, "lora/adapter_config.json": b"{}"})["lora/adapter_model.safetensors"]
    assert (model.kind, model.adapter_config) == (ModelKind.ADAPTER, "lora/adapter_config.json")
    model = change({}, {"lora/adapter_config.json": b"[]"})["lora/adapter_model.safetensors"]
    assert (model.touched, model.weights_touched) == (("lora/adapter_config.json",), False)
    model = change({}, {"lora/adapter_config.json": None})["lora/adapter_model.safetensors"]
    assert (model.touched, model.adapter_config) == (("lora/adapter_config.json",), None)
    model = change({}, {"n/model.safetensors": WEIGHTS, "n/adapter_config.json": b"{}"})["n/model.safetensors"]
    assert model.adapter_config is None


def zipped(name: str) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, PICKLED)
    return buffer.getvalue()


UNSUPPORTED = {
    "a.gguf": (b"", "GGUF"),
    "a.GGUF": (b"anything", "GGUF"),
    "a.h5": (b"\x89HDF", "Keras HDF5"),
    "a.keras": (b"", "Keras"),
    "a.onnx": (b"", "ONNX"),
    "flax_model.msgpack": (b"", "Flax msgpack"),
    "pytorch_model-00001-of-00002.bin": (zipped("archive/data.pkl"), "sharded torch"),
    "a.pt": (PICKLED, "torch or pickle"),
    "a.pth": (b"tiny", "torch or pickle"),
    "a.ckpt": (pointer_to("ab" * 32, 10**9), "torch or pickle"),
    "a.dat": (b"GGUF" + bytes(SMALL), "GGUF"),
    "notes.txt": (PICKLED, "torch or pickle"),
    "a.pkl": (PICKLED, "torch or pickle"),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_weights_in_other_formats_are_known_by_name_or_content(name: str, change: Change) -> None:
    content, note = UNSUPPORTED[name]
    (model,) = change({"x": b""}, {f"m/{name}": content}).values()
    assert (model.kind, model.entry, model.format_note, model.weights_touched) == (ModelKind.UNSUPPORTED, f"m/{name}", note, True)
    assert change({}, {"x": b"1"}) == {}


@pytest.mark.parametrize("name", ["pytorch_model.bin", "no-extension"])
def test_torch_zips_are_models_that_are_read(name: str, change: Change) -> None:
    (model,) = change({"x": b""}, {f"m/{name}": zipped("archive/data.pkl")}).values()
    assert (model.kind, model.entry, model.format_note) == (ModelKind.SINGLE, f"m/{name}", "")


NO_MODELS = {
    **dict.fromkeys(("optimizer.pt", "scheduler.pt", "rng_state.pth", "rng_state_0.pth", "training_args.bin", "optimizer_1.bin"), PICKLED),
    **dict.fromkeys(("random_states_0.pkl", "scaler.pt"), PICKLED),
    "small.pkl": pickle.dumps([1, 2, 3]),
    "photo.jpg": b"\xff\xd8\xff" + bytes(SMALL),
    "archive.zip": zipped("readme.txt"),
    "text.txt": b"{" * SMALL,
    "data.json": b'{"a": {"b": {"c": 1}}}' * SMALL,
    "empty": b"",
    "picture.png": pointer_to("ab" * 32, 10**9),
    "table.npz": zipped("arr_0.npy"),
}


@pytest.mark.parametrize("name", NO_MODELS)
def test_other_files_are_no_models(name: str, change: Change) -> None:
    assert change({}, {f"m/{name}": NO_MODELS[name]}) == {}


@pytest.mark.parametrize("name", ["weights.dat", "model.safetensor", "MODEL.SAFETENSORS", "noextension", "notes.txt", "model.bin"])
@pytest.mark.parametrize("how", ["plain", "tiny", "spaced", "lfs"])
def test_a_safetensors_file_is_known_by_content_whatever_its_name(name: str, how: str, change: Change) -> None:
    tiny = raw({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}, b"x")
    spaced = raw(b' { "a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"x")
    content = {"plain": WEIGHTS, "tiny": tiny, "spaced": spaced, "lfs": change.repository.store(WEIGHTS)}[how]
    (model,) = change({"x": b""}, {f"m/{name}": content}).values()
    assert (model.kind, model.entry, model.format_note) == (ModelKind.SINGLE, f"m/{name}", "")


def test_a_renamed_model_is_new(change: Change) -> None:
    models = change({"model.safetensors": WEIGHTS}, {"model.safetensors": None, "renamed.dat": WEIGHTS})
    assert {subject: model.before_entry for subject, model in models.items()} == {"renamed.dat": None}
    assert removed_weights(change.files) == ("model.safetensors",)


def test_links_and_submodules_are_reported_and_not_followed(change: Change) -> None:
    before: dict[str, Content] = {"real/model.safetensors": WEIGHTS, "was/model.safetensors": WEIGHTS}
    after: dict[str, Content] = {
        "m/model.safetensors": Link("/proc/self/environ"),
        "was/model.safetensors": Link("../real/model.safetensors"),
        "module.safetensors": Submodule(),
        "n/model.safetensors": OTHER,
        "n/README.md": Link("/etc/passwd"),
        "n/trainer_state.json": Link("/etc/passwd"),
    }
    models = change(before, after)
    linked_weights = ("m/model.safetensors", "module.safetensors", "was/model.safetensors")
    assert list(models) == sorted([*linked_weights, "n/model.safetensors"])
    assert {models[path].kind for path in linked_weights} == {ModelKind.UNSUPPORTED}  # in the place of weights, and nobody looks there
    assert (models["n/model.safetensors"].card, models["n/model.safetensors"].logs) == (None, ())
    linked = ("m/model.safetensors", "module.safetensors", "n/README.md", "n/trainer_state.json", "was/model.safetensors")
    assert not_followed(change.files) == linked
    change({}, {"m/model.safetensors": None})
    assert not_followed(change.files) == ()


def test_a_directory_of_weights_that_becomes_a_link_is_no_pass(change: Change) -> None:
    before: dict[str, Content] = {"m/model.safetensors": WEIGHTS, "docs/a.txt": b"", "real/model.safetensors": WEIGHTS}
    gone: dict[str, Content] = {"m/model.safetensors": None, "docs/a.txt": None}
    models = change(before, {**gone, "m": Link("real"), "docs": Link("real"), "new": Submodule()})
    assert {path: model.kind for path, model in models.items()} == {"m": ModelKind.UNSUPPORTED}


@pytest.mark.parametrize(
    ("name", "size", "taken"),
    [
        ("blob", 5 << 20, True),
        ("data.zip", 5 << 20, True),
        ("film.mp4", 5 << 20, False),
        ("rows.parquet", 5 << 20, False),
        ("blob", 999, False),
    ],
)
def test_an_object_of_unknown_name_that_is_not_at_hand_may_be_weights(name: str, size: int, taken: bool, change: Change) -> None:
    models = change({}, {name: pointer_to("ab" * 32, size)})
    assert [model.kind for model in models.values()] == [ModelKind.UNSUPPORTED] * taken


def test_the_nearest_card_counts(change: Change) -> None:
    files: dict[str, Content] = {"a/b/model.safetensors": WEIGHTS, "README.md": CARD}
    assert change({}, files)["a/b/model.safetensors"].card == "README.md"
    assert change({}, {"a/MODEL_CARD.md": CARD})["a/b/model.safetensors"].card == "a/MODEL_CARD.md"
    assert change({}, {"a/b/README.md": CARD})["a/b/model.safetensors"].card == "a/b/README.md"
