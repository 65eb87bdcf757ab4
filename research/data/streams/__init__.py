"""`data=lhotse`: what is read line by line out of shards, in lhotse's formats and NeMo's, batched by lhotse's samplers.

sources.py   what `data.train` lists -> the sources of a mixture, each with its share
entries.py   an entry, or a YAML list of them -> the files that it names (spelling, patterns, layouts)
gather.py    files -> what is in them, cached (index; lines: nemo, cuts; tar)
match.py     both -> shards that know every duration and where the audio lies, without its being read (shards)
lanes.py     (seed, epoch, lane) -> clips in order
batches.py   a lane's clips -> batches, through lhotse's samplers
loader.py    a batch of clips -> samples
"""
