"""What models cost: training steps, inference, latency and throughput, measured with nothing else running.

It may import `training`, whose steps it times, and what lies behind. Start with `models`; `clock` measures any
callables, interleaved, and knows nothing of models.
"""
