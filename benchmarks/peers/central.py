"""``central.py WORK THREADS [channels-last]``: plain SGD of one model over the rows of a round's nodes, in batches.

What one writes in PyTorch where all rows are in one place: no node, no copy of the model, nothing added up. For every
number of a round that is read from standard input the seconds and the processor seconds of that round are printed.
"""

from __future__ import annotations

import os
import sys
import time

os.environ["OMP_NUM_THREADS"] = sys.argv[2]

import torch
import work
from torch.nn.functional import cross_entropy


def main() -> None:
    name, threads = sys.argv[1], int(sys.argv[2])
    layout = torch.channels_last if "channels-last" in sys.argv[3:] else torch.contiguous_format
    torch.set_num_threads(threads)
    w, (X, Y), model = work.WORK[name], map(torch.from_numpy, work.rows(name)), work.model(name)
    optimizer = torch.optim.SGD(model.parameters(), lr=w.rate)
    print("ready", flush=True)
    for line in sys.stdin:
        number, wall, processor = int(line), time.perf_counter(), time.process_time()
        for node in work.cohort(name, number):
            for batch in torch.from_numpy(work.order(name, number, node)).split(w.batch):
                optimizer.zero_grad()
                x = X[node][batch]
                cross_entropy(model(x.to(memory_format=layout) if x.ndim == 4 else x), Y[node][batch]).backward()
                optimizer.step()
        print(time.perf_counter() - wall, time.process_time() - processor, flush=True)


if __name__ == "__main__":
    main()
