"""A checkpoint's files are its own: links that lead out of it are refused."""

import os
import shutil

import pytest

from mlc_llm.convert import convert_weight, gen_config
from mlc_llm.errors import ConversionError
from mlc_llm.sources.links import refuse_links_out
from mlc_llm.testing import make_checkpoint, raises

FILES = ("config.json", "tokenizer.json", "model.safetensors")


@pytest.fixture
def source(tmp_path):
    return make_checkpoint(tmp_path / "source")


@pytest.fixture
def snapshot(tmp_path, source):
    """The same checkpoint as the hub's cache has it."""
    repository = tmp_path / "hub" / "models--org--name"
    folder = repository / "snapshots" / "0123abc"
    folder.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for index, name in enumerate(FILES):
        shutil.move(source / name, repository / "blobs" / str(index))
        (folder / name).symlink_to(f"../../blobs/{index}")
    return folder


def convert(folder, output):
    convert_weight(folder, "q0f16", output)
    gen_config(folder, "q0f16", "LM", output)


@pytest.mark.parametrize("name", [*FILES, "generation_config.json", "added_tokens.json"])
@pytest.mark.parametrize("chain", [False, True])
def test_a_link_out_of_the_folder(tmp_path, source, name, chain):
    private = tmp_path / "private"
    if (source / name).exists():
        (source / name).rename(private)
    else:
        private.write_text("{}")
    if chain:
        (source / "inner").symlink_to(os.path.relpath(private, source))
        (source / name).symlink_to("inner")
    else:
        (source / name).symlink_to(private)
    output = tmp_path / "output"
    with raises("link-outside", private, error=ConversionError):
        gen_config(source, "q0f16", "LM", output)
    with raises("link-outside", private, error=ConversionError):
        convert_weight(source, "q0f16", output)
    assert not output.exists()


def test_links_within_the_folder_and_to_the_folder(tmp_path, source):
    (source / "files").mkdir()
    for name in FILES:
        (source / name).rename(source / "files" / name)
        (source / name).symlink_to(f"files/{name}")
    (tmp_path / "link").symlink_to(source)
    convert(tmp_path / "link", tmp_path / "output")
    assert not (tmp_path / "output" / "tokenizer.json").is_symlink()


def test_links_to_folders_and_into_nothing(tmp_path, source):
    (tmp_path / "runs").mkdir()
    (source / "runs").symlink_to(tmp_path / "runs")
    (source / "gone").symlink_to("nothing")
    (source / "loop").symlink_to("loop")
    refuse_links_out(source)
    (source / "away").symlink_to("../nothing")
    with raises("link-outside", source / "away", error=ConversionError):
        refuse_links_out(source)


def test_the_cache_of_the_hub(tmp_path, snapshot):
    convert(snapshot, tmp_path / "output")
    # Links may be absolute, and the cache may be reached through a link.
    blob = (snapshot / "config.json").resolve()
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to(blob)
    (tmp_path / "elsewhere").symlink_to(tmp_path / "hub")
    place = tmp_path / "elsewhere" / "models--org--name" / "snapshots" / "0123abc"
    convert(place, tmp_path / "output")


def test_blobs_that_repositories_share(tmp_path, snapshot):
    """As huggingface_hub 2 lays its cache out."""
    digest = "ab" + "0" * 62
    shared = tmp_path / "hub" / "blobs" / "ab" / digest
    shared.parent.mkdir(parents=True)
    blob = (snapshot / "model.safetensors").resolve()
    blob.rename(shared)
    blob.symlink_to(f"../../blobs/ab/{digest}")
    convert(snapshot, tmp_path / "output")
    other = shared.with_name("config.json")
    shared.rename(other)
    blob.unlink()
    blob.symlink_to("../../blobs/ab/config.json")
    with raises("link-outside", snapshot, error=ConversionError):
        refuse_links_out(snapshot)


def test_what_leaves_the_cache(tmp_path, snapshot):
    private = tmp_path / "private"
    private.write_text("{}")
    blobs = snapshot.parent.parent / "blobs"
    link = snapshot / "added_tokens.json"
    # A blob that is a link itself.
    (blobs / "3").symlink_to(private)
    link.symlink_to("../../blobs/3")
    with raises("link-outside", snapshot, error=ConversionError):
        refuse_links_out(snapshot)
    link.unlink()
    # Another repository's.
    other = tmp_path / "hub" / "models--org--other" / "blobs"
    other.mkdir(parents=True)
    (other / "0").write_text("{}")
    link.symlink_to(other / "0")
    with raises("link-outside", snapshot, error=ConversionError):
        refuse_links_out(snapshot)
    link.unlink()
    # A folder of blobs that is a link.
    blobs.rename(tmp_path / "moved")
    blobs.symlink_to(tmp_path / "moved")
    with raises("link-outside", snapshot, error=ConversionError):
        refuse_links_out(snapshot)


def test_a_link_into_the_cache_from_elsewhere(source, snapshot):
    (source / "added_tokens.json").symlink_to(snapshot / "config.json")
    with raises("link-outside", "HF://org/name", error=ConversionError):
        refuse_links_out(source)
