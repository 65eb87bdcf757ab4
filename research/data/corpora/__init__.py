"""Corpora that `hark prepare` makes: 16 kHz mono FLAC beside JSONL manifests, a licence file and a summary."""
