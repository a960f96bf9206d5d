"""Ask for one image at a time whether a lake holds a near-duplicate, without Spark.

    python docs/examples/online_index.py LAKE IMAGE...

The index is datasketch's MinHashLSH, here in memory. With `storage_config` it is in Redis, so that many processes share
it: see datasketch's documentation. Only the distance of the candidates decides.
"""

import sys
from pathlib import Path

import numpy as np
from datasketch import MinHashLSH

from models.images import decoding
from udfs.hashes.hamming import distances, words
from udfs.hashes.minhash import choose_bands
from udfs.hashes.pdq import PDQ_DISTANCE, PDQ_SIDE, pdq_of
from winnow import lean_minhashes, open_lake

QUALITY = 50  # a plainer image is near many others


class OnlineIndex:
    """The PDQ hashes of a lake, which can be asked for near-duplicates of an image."""

    def __init__(self, ids: list[str], hashes: np.ndarray, recall: float = 0.99) -> None:
        self.ids, self.words = ids, words(hashes)
        bands = choose_bands(len(ids), PDQ_DISTANCE, recall)
        self.permutations = bands.bands * bands.rows
        self.lsh = MinHashLSH(num_perm=self.permutations, params=(bands.bands, bands.rows))
        with self.lsh.insertion_session() as session:
            for place, signature in enumerate(lean_minhashes(hashes, self.permutations)):
                session.insert(place, signature)

    def near(self, hash_: bytes) -> list[tuple[str, int]]:
        """Returns the images within the distance, nearest first, each with its distance in bits."""
        own = np.frombuffer(hash_, np.uint8)[None]
        places = np.array(sorted(self.lsh.query(lean_minhashes(own, self.permutations)[0])), dtype=np.intp)
        apart = distances(words(own)[0], self.words[places]) if len(places) else []
        found = [
            (self.ids[place], int(bits)) for place, bits in zip(places, apart, strict=True) if bits <= PDQ_DISTANCE
        ]
        return sorted(found, key=lambda one: (one[1], one[0]))


def main(lake: str, images: list[str]) -> None:
    """Builds the index of a lake, and asks it for each image."""
    rows = (
        open_lake(lake).pandas("signals", columns=["image_id", "pdq", "pdq_quality"]).query("pdq_quality >= @QUALITY")
    )
    index = OnlineIndex(list(rows["image_id"]), np.frombuffer(b"".join(rows["pdq"]), np.uint8).reshape(-1, 32))
    for image in images:
        hash_, quality = pdq_of(decoding.decode(Path(image).read_bytes(), PDQ_SIDE))
        near = index.near(hash_) if quality >= QUALITY else []
        print(image, ", ".join(f"{image_id} ({bits} bits)" for image_id, bits in near) or "no near-duplicate")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
