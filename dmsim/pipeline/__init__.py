"""The whole chain: the one package that imports every stage.

Four depths of one physics: quanta, areas, hits, records; then reconstruction. Each `simulate_*` compiles a
few kernels and may be differentiated with `jax.grad`, `jax.jvp` and `jax.vjp` in the detector and in the
deposits. Random numbers belong to (key, event number, deposit, stream, index): the same event comes out
the same whatever batch it is simulated in, and all levels share what they have in common.
"""

from dmsim.pipeline.expected import expected_waveform as expected_waveform
from dmsim.pipeline.expected import expected_window as expected_window
from dmsim.pipeline.hits import simulate_hits as simulate_hits
from dmsim.pipeline.levels import simulate_areas as simulate_areas
from dmsim.pipeline.levels import simulate_quanta as simulate_quanta
from dmsim.pipeline.reconstruct import reconstruct as reconstruct
from dmsim.pipeline.records import iterate_records as iterate_records
from dmsim.pipeline.records import simulate_records as simulate_records
from dmsim.pipeline.salting import Salt as Salt
from dmsim.pipeline.salting import salt as salt
from dmsim.pipeline.stream import iterate_stream as iterate_stream
from dmsim.pipeline.stream import iterate_stream_with_truth as iterate_stream_with_truth
from dmsim.pipeline.truth import iterate_records_with_truth as iterate_records_with_truth
from dmsim.pipeline.truth import truth_of as truth_of
from dmsim.pipeline.windows import stream_windows as stream_windows
