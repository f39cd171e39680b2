"""The soft reading: the decisions of the hard one as probabilities, through which a gradient passes."""

from dmsim.reconstruction.soft.clustering import SoftClusters as SoftClusters
from dmsim.reconstruction.soft.clustering import cluster_expectations as cluster_expectations
from dmsim.reconstruction.soft.clustering import soft_clusters as soft_clusters
