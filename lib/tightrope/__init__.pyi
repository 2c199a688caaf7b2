"""The public names, written once: what `from tightrope import ...` gives."""

from . import progress as progress
from . import seeds as seeds
from .boundary import adversary as adversary
from .boundary import anatomy as anatomy
from .boundary import attacks as attacks
from .boundary import boxes as boxes
from .boundary import curvature as curvature
from .boundary import degeneracy as degeneracy
from .boundary import line_scan as line_scan
from .boundary import linear_regions as linear_regions
from .boundary import margins as margins
from .boundary import partitions as partitions
from .boundary import persistence as persistence
from .boundary import wedges as wedges
from .features import averaging as averaging
from .features import certificates as certificates
from .features import homogeneity as homogeneity
from .features import low_rank as low_rank
from .features import universal as universal
from .inputs import clusters as clusters
from .inputs import data as data
from .inputs import spectra as spectra
from .inputs import synthetic as synthetic
from .inputs import views as views
from .models import log_descent as log_descent
from .models import log_training as log_training
from .models import nets as nets
from .models import pair_losses as pair_losses
from .models import penalties as penalties
from .models import training as training
from .paths import gaussian_process as gaussian_process
from .paths import path_kernel as path_kernel
from .paths import straight_path as straight_path
from .paths import weight_space as weight_space

__version__: str
