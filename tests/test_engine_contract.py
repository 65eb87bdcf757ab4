"""What the engine takes from fairseq2 is there and takes what the engine gives: a new version fails here first."""

import ast
import inspect
import pydoc
from pathlib import Path

import pytest

from research import engine

TAKEN = {
    "checkpoint.StandardCheckpointManager": "output_dir gangs file_system tensor_file_loader tensor_file_dumper"
    " thread_pool checkpoint_dir",
    "checkpoint.StandardCheckpointManager.save_checkpoint": "self step_nr trainer model optimizer data_reader"
    " ready_callback saved_callback blocking",
    "checkpoint.StandardCheckpointManager.save_score": "self step_nr score",
    "checkpoint.StandardCheckpointManager.load_trainer_state": "self step_nr trainer",
    "checkpoint.StandardCheckpointManager.load_model_state": "self step_nr model",
    "checkpoint.StandardCheckpointManager.load_optimizer_state": "self step_nr optimizer",
    "checkpoint.StandardCheckpointManager.get_stale_step_numbers": "self keep_last_n keep_best_n keep_every_n_steps",
    "checkpoint.StandardCheckpointManager.delete_checkpoint": "self step_nr keep_model",
    "error.OperationalError": None,
    "file_system.NativeLocalFileSystem": "",
    "gang.FakeGang": "device rank size",
    "gang.Gang.all_reduce": "self tensor op",
    "gang.Gang.broadcast_objects": "self objects source_rank",
    "gang.Gang.as_process_group": "self",
    "gang.Gang.barrier": "self",
    "gang.GangError": None,
    "gang.Gangs": "root dp rdp sdp tp pp",
    "gang.ProcessGroupGang.create_default_process_group": "device timeout high_priority",
    "gang.ReduceOperation.SUM": None,
    "gang.all_sum": "gang value",
    "gang.create_fake_gangs": "device",
    "gang.create_fsdp_gangs": "gangs intra_node_size",
    "gang.create_parallel_gangs": "root_gang tp_size",
    "io.TensorFileDumper.dump": "self data file options",
    "io.TensorFileDumpOptions": "pickle_protocol",
    "io.TensorFileLoader.load": "self file options",
    "io.TensorFileLoadOptions": "map_location mmap restrict",
    "nn.data_parallel.get_data_parallel_facade": "module",
    "nn.fsdp.FSDPWrapper": None,
    "nn.fsdp.to_fsdp2": "module gangs applier mixed_precision_dtype fp32_reduce broadcast_state skip_init"
    " reshard_after_forward cpu_offload",
    "utils.threading.ThreadPool.queue": "self callback args kwargs",
}


@pytest.mark.parametrize("name", TAKEN)
def test_a_name_of_fairseq2_is_as_the_engine_uses_it(name):
    found = pydoc.locate(f"fairseq2.{name}")
    assert found is not None
    if TAKEN[name] is not None:
        assert list(inspect.signature(found).parameters) == TAKEN[name].split()


def imports():
    """(module, name) of every import from fairseq2 in the engine, but for the native part: its tests hold that."""
    for file in Path(engine.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            module = getattr(node, "module", None) or ""
            if module.startswith("fairseq2") and module != "fairseq2.data.data_pipeline":
                yield from ((module, alias.name) for alias in node.names)


def test_every_import_is_held_above_and_none_is_private():
    taken = [f"fairseq2.{name}" for name in TAKEN]
    assert len(list(imports())) > 10
    for module, name in imports():
        assert not name.startswith("_")
        assert any(held.startswith(f"{module}.{name}") for held in taken), f"{module}.{name}"
