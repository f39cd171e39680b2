"""Deposits -> Quanta: NEST yields and fluctuations."""

from dmsim.quanta.clustering import Clustered as Clustered
from dmsim.quanta.clustering import cluster as cluster
from dmsim.quanta.conditions import Yields as Yields
from dmsim.quanta.expected import QuantaSpread as QuantaSpread
from dmsim.quanta.expected import expected_quanta as expected_quanta
from dmsim.quanta.expected import quanta_spread as quanta_spread
from dmsim.quanta.models import MODELS as MODELS
from dmsim.quanta.models import YIELD_TABLES as YIELD_TABLES
from dmsim.quanta.models import mean_yields as mean_yields
from dmsim.quanta.stage import deposit_yields as deposit_yields
from dmsim.quanta.stage import present_interactions as present_interactions
from dmsim.quanta.stage import sample_quanta as sample_quanta
