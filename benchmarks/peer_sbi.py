"""sbi's NPE with its neural spline flow on pairs from a file; sbi's interpreter.

`python peer_sbi.py SET.npz OUT.npz SEED [EPOCHS]` reads theta, x, test_theta, test_x, low, high, observations
and many_x, trains with the defaults of sbi (batches of 200, early stopping) and writes draws for the
observations, and figures as one line of JSON.
"""

import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from sbi.inference import NPE
from sbi.neural_nets import posterior_nn
from sbi.utils import BoxUniform
from timing import peak_memory_mb

warnings.filterwarnings("ignore")
N_DRAWS = 4000


def main() -> None:
    """Train, weigh the test pairs, draw."""
    torch.set_num_threads(1)
    source, target, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    given = {name: torch.as_tensor(array, dtype=torch.float32) for name, array in np.load(source).items()}
    torch.manual_seed(seed)
    prior = BoxUniform(given["low"], given["high"])
    network = posterior_nn(model="nsf", hidden_features=50, num_transforms=5, num_bins=10)
    trainer = NPE(prior, density_estimator=network, show_progress_bars=False)
    trainer.append_simulations(given["theta"], given["x"])

    first = time.process_time()
    limit = {"max_num_epochs": int(sys.argv[4])} if len(sys.argv) > 4 else {}
    estimator = trainer.train(training_batch_size=200, show_train_summary=False, **limit)
    train_cpu_s = time.process_time() - first
    n_epochs = len(trainer.summary["training_loss"])
    # sbi holds a tenth back, and returns the weights of the best epoch, 20 before the last
    n_steps = n_epochs * int(0.9 * len(given["theta"]) // 200)
    best = int(np.argmin(trainer.summary["validation_loss"])) + 1
    with torch.no_grad():
        test_nll = float(-estimator.log_prob(given["test_theta"][None], given["test_x"]).mean())

    posterior = trainer.build_posterior(estimator)
    draws = np.stack(
        [posterior.sample((N_DRAWS,), x=x, show_progress_bars=False).numpy() for x in given["observations"]]
    )
    drawn_cpu_s = time.process_time() - first - train_cpu_s
    posterior.sample_batched((100,), x=given["many_x"][:10], show_progress_bars=False)
    first = time.process_time()
    posterior.sample_batched((100,), x=given["many_x"], show_progress_bars=False)
    batched_cpu_s = time.process_time() - first
    figures = dict(
        n_parameters=sum(p.numel() for p in estimator.parameters()),
        n_epochs=n_epochs,
        steps_per_cpu_s=n_steps / train_cpu_s,
        train_cpu_s=train_cpu_s,
        best_cpu_s=train_cpu_s * best / n_epochs,
        draws_cpu_s=drawn_cpu_s,
        test_nll=test_nll,
        draws_per_cpu_s=100 * len(given["many_x"]) / batched_cpu_s,
        peak_memory_mb=peak_memory_mb(),
    )
    # sbi writes to standard output, too
    np.savez(target, draws=draws, figures=json.dumps(figures))


if __name__ == "__main__":
    main()
