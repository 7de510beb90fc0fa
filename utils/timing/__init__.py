"""What models cost in time: training steps, inference, latency and throughput, measured with nothing else running.

It may import `training`, whose steps it times, and what that imports. Start with `models`. `clock` times any callables
in turn and knows nothing of models; `choices` measures which precision and how many threads suit the machine.
"""
