# `make demo` and `make test` need nothing but Python 3.11 and, as root, Debian's package manager.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
FESTIVAL := /usr/share/festival/voices

.PHONY: demo test lint types clean

demo: $(INSTALLED)
	$(BIN)/bicompile trace zoo:bifsmnv2-kws12 --width 0 -o build/bifsmnv2-kws12.onnx
	$(BIN)/bicompile compile build/bifsmnv2-kws12.onnx --target cortex-a53 -o build/kws
	$(BIN)/bicompile run build/kws zoo:clips
	$(BIN)/bicompile verify build/kws zoo:clips --model build/bifsmnv2-kws12.onnx

test: $(INSTALLED) lint types
	@.ci/need qemu-aarch64:qemu-user cmake:cmake espeak-ng:espeak-ng flite:flite festival:festival \
	  $(FESTIVAL)/english/kal_diphone:festvox-kallpc16k \
	  $(FESTIVAL)/english/ked_diphone:festvox-kdlpc16k \
	  $(FESTIVAL)/us/cmu_us_slt_arctic_hts:festvox-us-slt-hts
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Types are checked on an ordinary install: an editable one hides the mapped packages.
types: $(INSTALLED)
	@rm -rf build/types build/lib
	@$(BIN)/pip install --quiet --no-deps --target build/types .
	cd build/types && ../../$(BIN)/mypy --config-file ../../pyproject.toml

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "bicompile needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "Python cannot make a virtual environment: apt-get install python3-venv"; exit 1; }
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet --editable '.[train,tune,test]'
	@touch $(INSTALLED)

clean:
	rm -rf build $(VENV)
