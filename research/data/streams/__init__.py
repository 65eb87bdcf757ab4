"""`data=lhotse`: what is read line by line out of shards, in lhotse's formats and NeMo's, batched by lhotse's samplers.

sources.py   what `data.train` lists -> the sources of a mixture, each with its share
shards.py    files -> shards that know every duration without their audio being read
lanes.py     (seed, epoch, lane) -> clips in order
batches.py   a lane's clips -> batches, through lhotse's samplers
loader.py    a batch of clips -> samples
"""
