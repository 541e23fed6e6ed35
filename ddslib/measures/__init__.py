"""Measures of a decomposition: pure functions of arrays, whose public names are all re-exported here.

In: A (N, T), source activations; Y (N, T), the binary piano roll; X (K, T), its reconstruction.
Out: plain floats, intervals of them, or a ValueError that says what was expected; never a NaN.

Arrays or tensors of any device are accepted.  Most measures take `weights` (T,) as well: a frame of weight 2 counts as
if it were there twice.  With many sets of them, weights (..., T), there is a result (...) for each, in one go: that is
what makes `bootstrap` fast.  Which of them stand in every row is for `ddslib.runs.rows` to say, and what tables are
made of rows for `ddslib.pages.comparison`.

Measures:
    * `precision_of_source_attribution`, over all frames or averaged by frame
    * `sparsity`, the share of cells that are nearly zero
    * `relative_error` of the reconstruction
    * `average_precision`, over all cells, or with every frame scaled alike
    * `precision_recall_f` at a threshold, and `best_threshold`; `relative` activity, which knows no level
    * `bootstrap`, how far any of them would move with other chords and other seeds; `interval` and `verdict` of that

References:
    * Marták, Kelz and Widmer 2022, §IV-E (Eq. 1)
    * Hurley and Rickard, "Comparing measures of sparsity", IEEE Trans. Inf. Theory 55(10), 2009
"""

from .attribution import (
    frame_precision_of_source_attribution,
    precision_of_source_attribution,
    relative_error,
    sparsity,
)
from .detection import Detection, average_precision, best_threshold, precision_recall_f, relative
from .intervals import bootstrap, interval, verdict
