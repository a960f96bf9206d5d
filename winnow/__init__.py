"""What a user's own Spark code may import from Winnow.

Lakes:

| name | is |
|---|---|
| `open_lake` | opens a lake to read its tables as Spark or pandas frames |
| `LakeReader` | what `open_lake` returns |

Kernels, which work in any DataFrame and, registered with `spark.udf.register`, in SQL:

| name | is |
|---|---|
| `pdq` | pandas UDF: the PDQ hash and its quality, of encoded images |
| `classify` | makes a pandas UDF that scores images or embeddings by an ONNX classifier |
| `ImageModel` | describes an ONNX image classifier for `classify` |
| `hamming` | pandas UDF: the bits in which two 256-bit hashes differ |
| `minhash_bands` | a column of band keys of 256-bit hashes: two hashes that share one are a candidate pair |

The mitigations as functions on DataFrames, which read and write no table:

| name | is |
|---|---|
| `near_duplicates` | finds near-duplicates, and which image of each stays |
| `NearDuplicateConfig` | its settings, by `NearDuplicateConfig.with_defaults(rule, ...)` |
| `Rule` | what counts as a near-duplicate: which hash, how many bits |
| `importance_weights` | weights of the kept images that undo the bias of filtering |
| `WeighingConfig` | its settings, by `WeighingConfig.with_defaults(...)` |
| `keyword_shift` | how filtering moved the keywords of captions, and how far weights move them back |
| `KeywordShiftConfig` | its settings, by `KeywordShiftConfig.with_defaults(...)` |
| `Scratch` | where such a function keeps what it reads twice |

Everywhere:

| name | is |
|---|---|
| `WinnowError` | the error that Winnow raises on purpose, with a message for the user |
| `__version__` | the version of Winnow, such as `0.1.0` |

These names stay, as do those of `udfs`. Every other module may change with any version. The import starts no Spark
session and does not need torch.
"""

from jobs.commands.audit.keyword_shift import KeywordShiftConfig, keyword_shift
from jobs.commands.dedup.near_duplicates import NearDuplicateConfig, near_duplicates
from jobs.commands.weigh.importance_weights import WeighingConfig, importance_weights
from jobs.lake.reader import LakeReader, open_lake
from jobs.matching.rule import Rule
from jobs.runtime.scratch import Scratch
from jobs.runtime.version import VERSION
from models.errors import WinnowError
from models.inference.classifier import ImageModel
from udfs import classify, hamming, minhash_bands, pdq

__version__ = VERSION

# Each name has a row in a table above; a test compares them.
__all__ = [
    "ImageModel",
    "KeywordShiftConfig",
    "LakeReader",
    "NearDuplicateConfig",
    "Rule",
    "Scratch",
    "WeighingConfig",
    "WinnowError",
    "__version__",
    "classify",
    "hamming",
    "importance_weights",
    "keyword_shift",
    "minhash_bands",
    "near_duplicates",
    "open_lake",
    "pdq",
]
