"""Any upstream as a folder that transformers opens with hark's own code: see modeling_hark.py."""

from pathlib import Path

from research import files
from research.interop.described import describe
from research.interop.huggingface.folder import Contents, write_contents
from research.interop.report import Entry, Fate
from research.model import Upstream

CODE = Path(__file__).with_name("modeling_hark.py")


def write(upstream: Upstream, folder: Path) -> list[Entry]:
    """Write the folder; HarkError when a model is in it already."""
    config = {
        "model_type": "hark",
        "architectures": ["HarkModel"],
        "auto_map": {"AutoConfig": f"{CODE.stem}.HarkConfig", "AutoModel": f"{CODE.stem}.HarkModel"},
        "upstream": describe(upstream.frontend.cfg, upstream.encoder.cfg),
    }
    processor = {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        "padding_value": 0.0,
        "return_attention_mask": True,
        "do_normalize": False,
        "sampling_rate": upstream.sample_rate,
    }
    state = upstream.state_dict()
    write_contents(folder, Contents(config, processor, state))
    files.write(folder / CODE.name, CODE.read_text())
    return [Entry(name, Fate.used, name) for name in state]
