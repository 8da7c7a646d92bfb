"""The whole of stage 3 on the real stack: NF4, paged 8-bit AdamW, checkpoints, kills."""

import json
import multiprocessing
import os
import random
import re
import resource
import shutil
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from transformers import Qwen2Config, Qwen2ForCausalLM

from fintune_kit.chat.encoder import ChatEncoder
from fintune_kit.conversations import Conversation, write_conversations
from fintune_kit.errors import UserError
from fintune_kit.pack.stage import pack_conversations
from fintune_kit.tiny import build_tokenizer
from fintune_kit.train.artifacts import FILES
from fintune_kit.train.outcome import Outcome
from fintune_kit.train.stage import train
from fintune_kit.train.trainer import PackTrainer
from fintune_kit.workspace import Workspace, newest_checkpoint, sha256_of, write_manifest
from tests.train.two_processes import STEPS, recipe, short_run

WORDS = ("profit", "loss", "rose", "fell", "shares", "bond", "yield", "bank", "gold", "oil")


def conversation(number: int) -> list[dict[str, str]]:
    draw = random.Random(number)
    text = " ".join(draw.choices(WORDS, k=6))
    return [{"role": "user", "content": text}, {"role": "assistant", "content": draw.choice(("up", "down"))}]


def write_folder(folder: Path, **splits: list[list[dict[str, str]]]) -> Path:
    """A finished `conversations/` folder."""
    folder.mkdir(parents=True)
    for split, messages in splits.items():
        names = [f"{split}.csv#{number}" for number in range(len(messages))]
        rows = zip(names, messages, strict=True)
        write_conversations(
            folder / f"{split}.parquet",
            [Conversation(row_id=n, messages=m, task_type="qa", source="rows", conversation_id=n) for n, m in rows],
        )
    write_manifest(folder, stage="conversations", inputs={}, counts={})
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """`conversations/`, `packed/` and `base/`: a tiny Qwen2 with NF4-sized layers."""
    root = tmp_path_factory.mktemp("world")
    numbers = {"train": range(40), "validation": range(40, 48)}
    folder = write_folder(
        root / "conversations", **{name: [conversation(n) for n in of] for name, of in numbers.items()}
    )
    tokenizer = build_tokenizer([" ".join(WORDS)] * 4, vocab_size=320)
    config = Qwen2Config(
        vocab_size=320,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.1,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    Qwen2ForCausalLM(config).save_pretrained(root / "base")
    tokenizer.save_pretrained(root / "base")
    pack_conversations(folder, encoder=ChatEncoder.load(root / "base"), out=root / "packed", max_length=128, seed=0)
    return root


def run(world: Path, out: Path, **options):
    return train(
        recipe(),
        Workspace(out),
        packed=world / "packed",
        base=world / "base",
        minutes_between_checkpoints=0,
        **options,
    )


def timeless(path: Path) -> list[dict]:
    records = [json.loads(line) for line in (path / "run" / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if "second" not in key} for record in records]


@pytest.fixture(scope="module")
def whole(world, tmp_path_factory) -> Path:
    """A run that nothing happened to."""
    out = tmp_path_factory.mktemp("whole")
    assert run(world, out).finished
    return out


def test_a_finished_run_leaves_its_artifacts_its_log_and_its_plan(whole):
    assert set(FILES) <= {path.name for path in (whole / "adapter").iterdir()}
    config = json.loads((whole / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "base", "a path of this machine would leave it"
    plan = json.loads((whole / "run" / "plan.json").read_text())
    assert plan["plan"]["optimizer_steps"] == len(timeless(whole)) > 4


@pytest.fixture(scope="module")
def contrary(world, tmp_path_factory) -> Path:
    """Packs whose training answers are always `up`, and whose validation answers are always `down`."""

    def answering(answer: str, numbers: range) -> list[list[dict[str, str]]]:
        return [[conversation(n)[0], {"role": "assistant", "content": answer}] for n in numbers]

    root = tmp_path_factory.mktemp("contrary")
    folder = write_folder(
        root / "conversations", train=answering("up", range(40)), validation=answering("down", range(40, 48))
    )
    pack_conversations(folder, encoder=ChatEncoder.load(world / "base"), out=root / "packed", max_length=128, seed=0)
    return root / "packed"


def run_contrary(world: Path, packed: Path, out: Path, stop_after: int | None = None, **changes) -> Outcome:
    changed = replace(recipe(), train=replace(recipe().train, learning_rate=5e-3, epochs=12, **changes))
    return train(changed, Workspace(out), packed=packed, base=world / "base", stop_after=stop_after)


def measured(outcome: Outcome) -> list[float]:
    return [record["validation_loss"] for record in outcome.log if "validation_loss" in record]


def matrices(folder: Path, name: str) -> list[torch.Tensor]:
    """The adapter's values, in an order that its two spellings share."""
    return [value for _, value in sorted((k.replace(".default", ""), v) for k, v in load_file(folder / name).items())]


def test_the_exported_adapter_is_the_one_with_the_lowest_held_out_loss(world, contrary, tmp_path):
    losses = measured(run_contrary(world, contrary, tmp_path))
    assert len(losses) == 10
    assert min(losses) < losses[-1], "the last adapter is the best one, so this run could not tell them apart"
    best = tmp_path / "run" / "best"
    assert json.loads((best / "manifest.json").read_text())["loss"] == min(losses)
    kept, exported = matrices(best, "adapter.safetensors"), matrices(tmp_path / "adapter", "adapter_model.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(kept, exported, strict=True))


def test_a_run_that_gets_no_better_ends_early(world, contrary, tmp_path):
    outcome = run_contrary(world, contrary, tmp_path, patience=2)
    losses = measured(outcome)
    assert outcome.finished
    assert outcome.steps_done == len(outcome.log) < outcome.plan.optimizer_steps
    assert losses.index(min(losses)) == len(losses) - 3, "two measurements after the best"
    again = run_contrary(world, contrary, tmp_path, patience=2)
    assert again.steps_done == outcome.steps_done, "it is done, and does not go on"


def test_it_is_not_trained_twice_unless_asked(world, whole, monkeypatch):
    before = sha256_of(whole / "adapter")
    monkeypatch.setattr("fintune_kit.train.stage.load_base", None)
    assert run(world, whole).steps_done == len(timeless(whole))
    assert sha256_of(whole / "adapter") == before


def test_another_recipe_does_not_go_on_from_this_run(world, whole):
    other = replace(recipe(), seed=7)
    with pytest.raises(UserError, match=r"another recipe.*--fresh"):
        train(other, Workspace(whole), packed=world / "packed", base=world / "base")


def test_packs_of_another_length_are_refused(world, tmp_path):
    longer = replace(recipe(), pack=replace(recipe().pack, max_length=256))
    with pytest.raises(UserError, match=r"128 positions.*expects 256"):
        train(longer, Workspace(tmp_path), packed=world / "packed", base=world / "base")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json", "vocab.json", "manifest.json"])
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-9])])
def test_a_finished_run_with_a_lost_or_damaged_adapter_file_claims_no_success(world, whole, tmp_path, name, damage):
    out = shutil.copytree(whole, tmp_path / "out")
    damage(out / "adapter" / name)
    with pytest.raises(UserError, match=rf"has ended, but adapter/{name} (is missing|has changed).* move .* away"):
        run(world, out)


def test_a_finished_run_whose_log_was_changed_claims_no_success(world, whole, tmp_path):
    out = shutil.copytree(whole, tmp_path / "out")
    with (out / "run" / "log.jsonl").open("ab") as stream:
        stream.write(b"\n")
    with pytest.raises(UserError, match=r"has ended, but run/log\.jsonl has changed since it was written"):
        run(world, out)


def test_an_adapter_that_was_moved_away_is_written_again_from_the_last_checkpoint(world, whole, tmp_path, monkeypatch):
    out = shutil.copytree(whole, tmp_path / "out")
    shutil.rmtree(out / "adapter")
    monkeypatch.setattr(PackTrainer, "training_step", None)
    assert run(world, out).finished, "the last step is saved, so none is taken again"
    assert sha256_of(out / "adapter") == sha256_of(whole / "adapter")
    assert timeless(out) == timeless(whole)


def reseal(checkpoint: Path) -> None:
    """Lists the files of a checkpoint in its manifest, as training would."""
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.name != "manifest.json")
    manifest["files"] = {path.relative_to(checkpoint).as_posix(): sha256_of(path) for path in files}
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))


def test_a_run_goes_on_after_damage_to_its_log_and_from_a_card_that_scaled_its_losses(world, whole, tmp_path, caplog):
    """The checkpoint is that of a card with float16; the log lost its middle and has a tail of NUL."""
    run(world, tmp_path, stop_after=5)
    checkpoint = newest_checkpoint(tmp_path / "run" / "checkpoints")
    torch.save(torch.amp.GradScaler("cpu").state_dict(), checkpoint / "scaler.pt")
    with pytest.raises(UserError, match=r"scaler\.pt is not listed"):
        run(world, tmp_path)
    reseal(checkpoint)
    log = tmp_path / "run" / "log.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:2]) + b'{"step": 3, "lo' + lines[3] + b"\n" + b"\0" * 50)
    sessions = tmp_path / "run" / "sessions.jsonl"
    sessions.write_text(sessions.read_text().replace('"dtype": "float32"', '"dtype": "float16"'))
    assert run(world, tmp_path).finished
    assert "going on after step 5 with dtype float32 (before: float16): " in caplog.text
    assert "are restored from" in caplog.text
    assert timeless(tmp_path) == timeless(whole)
    assert sha256_of(tmp_path / "adapter" / "adapter_model.safetensors") == sha256_of(
        whole / "adapter" / "adapter_model.safetensors"
    )


def holds_something(folder: Path) -> bool:
    """Also while another process takes the folder away."""
    try:
        return any(folder.iterdir())
    except FileNotFoundError:
        return False


def moments(run: Path) -> dict[str, Callable[[], bool]]:
    """Whether a run has come to: its beginning, another step, a save that is under way."""
    log, partial = run / "log.jsonl", run / "checkpoints" / "partial"
    size = log.stat().st_size if log.is_file() else 0
    return {
        "start": lambda: True,
        "step": lambda: log.is_file() and log.stat().st_size > size,
        "save": lambda: holds_something(partial),
    }


def test_a_run_killed_twenty_times_is_the_run_that_was_not(world, whole, tmp_path):
    """SIGKILL at random moments, saving included: a real process each time, on what the last one left."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["fintune_kit.train.stage"])
    draw, killed = random.Random(0), Counter()
    while killed.total() < 20:
        moment = draw.choice(("start", "step", "save", "save"))
        reached = moments(tmp_path / "run")[moment]
        process = processes.Process(target=run, args=(world, tmp_path))
        process.start()
        while process.is_alive() and not reached():
            process.join(timeout=0.001)
        process.join(timeout=draw.uniform(0, {"start": 0.5, "step": 0.05, "save": 0.02}[moment]))
        assert process.is_alive(), f"it ended after {killed}: too few steps to be killed in"
        process.kill()
        process.join()
        killed[moment] += 1
    assert set(killed) == {"start", "step", "save"}
    process = processes.Process(target=run, args=(world, tmp_path))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert timeless(tmp_path) == timeless(whole)
    assert sha256_of(tmp_path / "adapter" / "adapter_model.safetensors") == sha256_of(
        whole / "adapter" / "adapter_model.safetensors"
    )


def run_with_little_room(world: Path, out: Path, bytes_a_file: int, said: Path) -> None:
    """Trains on where no file may grow past a size: the system's own refusal in the middle of a save."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_a_file, bytes_a_file))
    try:
        run(world, out)
    except UserError as error:
        said.write_text(str(error))


def test_where_the_disk_is_full_the_old_checkpoint_stands_and_the_run_goes_on_later(world, whole, tmp_path):
    run(world, tmp_path, stop_after=3)
    before = newest_checkpoint(tmp_path / "run" / "checkpoints")
    process = multiprocessing.get_context("forkserver").Process(
        target=run_with_little_room, args=(world, tmp_path, 20_000, tmp_path / "said.txt")
    )
    process.start()
    process.join()
    said = (tmp_path / "said.txt").read_text()
    assert re.search(r"checkpoint of step 4 could not be written.*GiB free.*run the same command again", said)
    assert "checkpoint-3 is whole" in said
    assert newest_checkpoint(tmp_path / "run" / "checkpoints") == before
    assert run(world, tmp_path).finished
    assert timeless(tmp_path) == timeless(whole)


def attach(run: Path, root: Path, monkeypatch) -> None:
    """Makes a run an attached input of a Kaggle session, read-only."""
    attached = root / "input" / "notebooks" / "someone" / "fintune-kit-03-train"
    attached.mkdir(parents=True)
    run.rename(attached / "run")
    for path in attached.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    monkeypatch.setenv("FINTUNE_KAGGLE_ROOT", str(root))


def test_the_best_adapter_of_an_earlier_session_is_exported_by_the_later_one(world, contrary, tmp_path, monkeypatch):
    first = run_contrary(world, contrary, tmp_path / "first", stop_after=60)
    best = load_file(tmp_path / "first" / "run" / "best" / "adapter.safetensors")
    attach(tmp_path / "first" / "run", tmp_path / "kaggle", monkeypatch)
    losses = measured(run_contrary(world, contrary, tmp_path / "second"))
    assert min(losses) == min(measured(first)), "the later session found a better one"
    assert len(losses) > len(measured(first))
    exported = matrices(tmp_path / "second" / "adapter", "adapter_model.safetensors")
    kept = [value for _, value in sorted((name.replace(".default", ""), value) for name, value in best.items())]
    assert all(torch.equal(a, b) for a, b in zip(exported, kept, strict=True))


def test_a_later_session_goes_on_from_the_run_in_an_attached_input(world, whole, tmp_path, monkeypatch, caplog):
    """As Kaggle mounts it: an earlier version's output, read-only, under a name that we do not choose."""
    run(world, tmp_path / "first", stop_after=5)
    attach(tmp_path / "first" / "run", tmp_path / "kaggle", monkeypatch)
    with caplog.at_level("WARNING"):
        assert run(world, tmp_path / "second").finished
    assert "going on after step 5" in caplog.text
    assert timeless(tmp_path / "second") == timeless(whole)


def test_an_attached_run_of_another_recipe_is_left_alone(world, tmp_path, monkeypatch, caplog):
    other = replace(recipe(), seed=7)
    train(other, Workspace(tmp_path / "first"), packed=world / "packed", base=world / "base", stop_after=2)
    attach(tmp_path / "first" / "run", tmp_path / "kaggle", monkeypatch)
    with caplog.at_level("WARNING"):
        assert run(world, tmp_path / "second", stop_after=1).steps_done == 1
    assert "another recipe and is left alone" in caplog.text


def run_two_processes(world: Path, out: Path, *arguments: str, killed: bool = False) -> None:
    """Runs `two_processes` in two processes, which end well, or are killed."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launch, "-m", "tests.train.two_processes", str(world), str(out), *arguments],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode != 0) == killed, done.stderr[-2000:]


def test_two_processes_give_the_losses_of_one(world, tmp_path):
    """One process a card, as on two T4; here on a CPU, over gloo, as the launcher starts them."""
    short_run(world, tmp_path / "one")
    run_two_processes(world, tmp_path / "two")
    plan = json.loads((tmp_path / "two" / "run" / "plan.json").read_text())["plan"]
    assert (plan["processes"], plan["accumulation"]) == (2, 2)
    one, two = ([record["loss"] for record in timeless(tmp_path / name)] for name in ("one", "two"))
    assert len(one) == STEPS
    assert two == pytest.approx(one, rel=1e-5)


def test_when_one_process_runs_out_of_memory_all_of_them_take_less_and_the_losses_stay(world, tmp_path):
    short_run(world, tmp_path / "one")
    run_two_processes(world, tmp_path / "two", "memory")
    written = json.loads((tmp_path / "two" / "run" / "plan.json").read_text())
    assert (written["plan"]["micro_batch"], written["plan"]["recompute"]["blocks"]) == (1, 0)
    assert written["after_running_out_of_memory"] == {"micro_batch": 1, "blocks": 1}
    one, two = ([record["loss"] for record in timeless(tmp_path / name)] for name in ("one", "two"))
    assert len(one) == STEPS
    assert two == pytest.approx(one, rel=1e-5)


def test_a_base_that_is_shared_out_gives_the_run_of_one_process_also_after_a_kill(world, tmp_path):
    """4-bit weights split over two processes: the losses, the adapter's files and values are those of one process."""
    short_run(world, tmp_path / "one", stop_after=None)
    run_two_processes(world, tmp_path / "two", "split", "4", killed=True)
    killed = timeless(tmp_path / "two")
    run_two_processes(world, tmp_path / "two", "split")
    assert json.loads((tmp_path / "two" / "run" / "plan.json").read_text())["plan"]["split_weights"] is True
    one, two = (timeless(tmp_path / name) for name in ("one", "two"))
    assert two[: len(killed)] == killed, "the log goes on, it is not written again"
    assert [r["step"] for r in two] == [r["step"] for r in one]
    assert 0 < len(killed) <= 4 < len(one)
    assert [r["loss"] for r in two] == pytest.approx([r["loss"] for r in one], rel=1e-4)
    names = [sorted(path.name for path in (tmp_path / name / "adapter").iterdir()) for name in ("one", "two")]
    assert names[0] == names[1]
    file = "adapter/adapter_model.safetensors"
    expected, found = (load_file(tmp_path / name / file) for name in ("one", "two"))
    assert found.keys() == expected.keys()
    for name, matrix in expected.items():
        torch.testing.assert_close(found[name], matrix, rtol=1e-2, atol=2e-4)
    configs = [json.loads((tmp_path / name / "adapter" / "adapter_config.json").read_text()) for name in ("one", "two")]
    assert configs[0] == configs[1]


def test_two_machines_give_the_losses_of_one_process(world, tmp_path):
    """A launcher on each of two machines, as `accelerate launch` is called there; here both are this one."""
    short_run(world, tmp_path / "one")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    machines = []
    for rank in range(2):
        launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines=2"]
        launch += ["--num_processes=2", f"--machine_rank={rank}", "--main_process_ip=127.0.0.1"]
        launch += [f"--main_process_port={port}", "--mixed_precision=no", "--dynamo_backend=no", "--module"]
        machines.append(
            subprocess.Popen(
                [*launch, "tests.train.two_processes", str(world), str(tmp_path / "two")],
                cwd=Path(__file__).parents[2],
                env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    outputs = [machine.communicate()[0] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], "".join(outputs)[-3000:]
    assert json.loads((tmp_path / "two" / "run" / "plan.json").read_text())["plan"]["processes"] == 2
    one, two = ([record["loss"] for record in timeless(tmp_path / name)] for name in ("one", "two"))
    assert len(one) == STEPS
    assert two == pytest.approx(one, rel=1e-5)


def test_a_machine_that_does_not_see_the_run_of_the_first_one_says_so(world, tmp_path, monkeypatch):
    """Its folder is on its own disk: there is no plan in it, because only the first process writes one."""
    second = SimpleNamespace(
        num_processes=2,
        process_index=1,
        local_process_index=0,
        is_main_process=False,
        is_local_main_process=False,
        main_process_first=nullcontext,
    )
    monkeypatch.setattr("fintune_kit.train.stage.PartialState", lambda **_: second)
    base = recipe()
    two = replace(base, train=replace(base.train, effective_batch=8, accumulation=2))
    with pytest.raises(UserError, match=r"no plan.json.*expected the folder that all machines share"):
        train(two, Workspace(tmp_path), packed=world / "packed", base=world / "base")


def test_processes_that_the_plan_cannot_feed_are_refused(world, tmp_path, monkeypatch):
    """One pack a step leaves nothing for a second process, which would silently double the step."""
    monkeypatch.setattr("fintune_kit.train.stage.PartialState", lambda **_: SimpleNamespace(num_processes=2))
    with pytest.raises(UserError, match=r"2 processes.*1 pack.*--processes 1"):
        run(world, tmp_path)
