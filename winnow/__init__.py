"""The public API of Winnow for your own Spark code.

Lakes:

| name | is |
|---|---|
| `open_lake` | opens a lake to read its tables as Spark or pandas frames |
| `LakeReader` | what `open_lake` returns |

Kernels, which work in any DataFrame and, if you register them with `spark.udf.register`, in SQL:

| name | is |
|---|---|
| `pdq` | pandas UDF: the PDQ hash of encoded images, with its quality |
| `classify` | returns a pandas UDF that scores images or embeddings with an ONNX classifier |
| `ImageModel` | describes an ONNX image classifier for `classify` |
| `hamming` | pandas UDF: the number of bits in which two 256-bit hashes differ |
| `minhash_bands` | a column of band keys of 256-bit hashes: two hashes with a common key are a candidate pair |
| `lean_minhashes` | signatures of 256-bit hashes for the indexes of datasketch, outside Spark |

The mitigations as functions on DataFrames. They read and write no tables:

| name | is |
|---|---|
| `near_duplicates` | finds near-duplicates, and chooses the image to keep |
| `NearDuplicateConfig` | its settings: `NearDuplicateConfig.with_defaults(rule, ...)` |
| `Rule` | the rule for near-duplicates: which hash, how many bits |
| `importance_weights` | weights for the kept images that correct the bias of filtering |
| `WeighingConfig` | its settings: `WeighingConfig.with_defaults(...)` |
| `keyword_shift` | how filtering changed the frequency of keywords in captions, and how well weights correct it |
| `KeywordShiftConfig` | its settings: `KeywordShiftConfig.with_defaults(...)` |
| `Scratch` | a folder for the intermediate results of such a function |

Other names:

| name | is |
|---|---|
| `WinnowError` | the error that Winnow raises with a message for the user |
| `__version__` | the version of Winnow, such as `0.1.0` |

These names and those of `udfs` are stable. Every other module may change with any version. The import starts no Spark
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
from udfs.hashes.lean_minhash import lean_minhashes

__version__ = VERSION

# Each name has a row in a table above. A test compares them.
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
    "lean_minhashes",
    "minhash_bands",
    "near_duplicates",
    "open_lake",
    "pdq",
]
