"""NeMo's side of extraction, run by its own Python: what its script for features does with its defaults, in eval mode.

The script stands in NeMo's repository and not in its package, so its work is written down here with NeMo's own parts:
character data set, no sorting, rows cut off, stacked and copied one by one, all features held and saved at the end as
one `.npy` of (L, D, T) each, and the manifest with their names.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nemo.collections.asr.data.audio_to_text_dataset import get_char_dataset
from nemo.collections.asr.models import EncDecDenoiseMaskedTokenPredModel
from nemo.collections.asr.modules import ConformerMultiLayerFeatureExtractor
from nemo.core.classes.common import typecheck
from torch.utils.data import DataLoader


def main() -> None:
    work = json.loads(sys.argv[1])
    torch.set_num_threads(work["threads"])
    typecheck.set_typecheck_enabled(enabled=False)
    device = torch.device(work["device"])
    model = EncDecDenoiseMaskedTokenPredModel.restore_from(work["checkpoint"], map_location=device).eval()
    begin = time.perf_counter()
    count = extract(work, model, device)
    print()  # whatever stands on the line
    print(json.dumps({"work_s": time.perf_counter() - begin, "utterances": count}))


def extract(work: dict[str, Any], model: Any, device: torch.device) -> int:
    out = Path(work["out"])
    out.mkdir(parents=True)
    lines = [json.loads(line) for line in Path(work["manifest"]).read_text().splitlines()]
    lines = [{"audio_filepath": line["audio_filepath"], "duration": None, "text": "-"} for line in lines]
    listed = out / "input.json"
    listed.write_text("".join(json.dumps(line) + "\n" for line in lines))
    wanted = {
        "manifest_filepath": str(listed),
        "sample_rate": model.cfg.sample_rate,
        "return_sample_id": True,
    }
    dataset = get_char_dataset(wanted)
    loader = DataLoader(
        dataset,
        batch_size=work["batch"],
        collate_fn=dataset.collate_fn,
        num_workers=work["workers"],
        pin_memory=True,
    )
    layers = ConformerMultiLayerFeatureExtractor(model.encoder, aggregator=None, layer_idx_list=None)
    kept = []
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=work["dtype"] == "bf16"):
        for batch in loader:
            audio, lengths, _, _, names = (part.to(device) for part in batch)
            mel, frames = model.preprocessor(input_signal=audio, length=lengths)
            found, sizes = layers(audio_signal=mel, length=frames)
            for row, name in enumerate(names.tolist()):
                x = torch.stack([layer[row][:, : sizes[0][row]] for layer in found])  # (L, D, T)
                kept.append((name, x.cpu().float().numpy()))
    for name, x in kept:
        path = out / (lines[name]["audio_filepath"].replace("/", "_").replace(".", "_")[-250:] + ".npy")
        np.save(path, x)
        lines[name]["feature_path"] = str(path)
    (out / "features.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return len(kept)


if __name__ == "__main__":
    main()
