"""hark's side of extraction: `hark extract`, timed from when the checkpoint is open."""

import argparse
import json
import sys
import time

import torch

from research.engine.gangs import start
from research.evaluation.extract import make
from research.evaluation.extract_job import job_of
from research.launch import extract_command
from research.training.memory import keep_freed_memory


def main() -> None:
    work = json.loads(sys.argv[1])
    torch.set_num_threads(work["threads"])
    keep_freed_memory()
    parser = argparse.ArgumentParser()
    extract_command.add_arguments(parser)
    words = [work["checkpoint"], work["manifest"], "--out", work["out"], "--workers", work["workers"]]
    words += ["--device", work["device"], "--precision", work["dtype"]]
    job = job_of(parser.parse_args([str(word) for word in words]))
    begin = time.perf_counter()
    make(job, start(work["device"]))
    took = time.perf_counter() - begin
    with (job.out / "features.jsonl").open() as lines:
        print(json.dumps({"work_s": took, "utterances": sum(1 for _ in lines)}))


if __name__ == "__main__":
    main()
