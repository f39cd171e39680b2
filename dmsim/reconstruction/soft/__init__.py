"""The soft reading: the decisions of the hard one as probabilities, through which a gradient passes."""

from dmsim.reconstruction.soft.clustering import SoftClusters as SoftClusters
from dmsim.reconstruction.soft.clustering import cluster_expectations as cluster_expectations
from dmsim.reconstruction.soft.clustering import soft_clusters as soft_clusters
from dmsim.reconstruction.soft.places import Places as Places
from dmsim.reconstruction.soft.reconstruct import Plan as Plan
from dmsim.reconstruction.soft.reconstruct import evaluate as evaluate
from dmsim.reconstruction.soft.reconstruct import peak_columns as peak_columns
from dmsim.reconstruction.soft.reconstruct import places_of as places_of
from dmsim.reconstruction.soft.reconstruct import plan as plan
from dmsim.reconstruction.soft.reconstruct import reconstruct_soft as reconstruct_soft
from dmsim.reconstruction.soft.tables import SoftEvents as SoftEvents
from dmsim.reconstruction.soft.tables import SoftPeaks as SoftPeaks
from dmsim.reconstruction.soft.temperature import Temperature as Temperature
