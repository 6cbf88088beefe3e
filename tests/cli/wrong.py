"""Wrong input by command: the arguments, and what the one line must say. `$name` stands for what the fixture `places` made."""

from __future__ import annotations

DPO = ["run", "dpo", "--quiet", "--run-dir", "$run"]
MODEL, DATA = "model.path=$model", "data.train=$preferences"
GOOD = [*DPO, MODEL, DATA]
SAMPLE = ["sample", "$prompts", "--model", "$model", "--out", "o.jsonl", "--quiet"]
SCORE = ["score", "$preferences", "--model"]

ITSELF: dict[str, tuple[list[str], list[str]]] = {
    "no such command": (["frobnicate"], ["No such command 'frobnicate'", "attune --help"]),
    "no such command of data": (["data", "frobnicate"], ["'frobnicate'", "attune data --help"]),
    "data alone": (["data"], ["Missing command", "attune data --help"]),
    "no such option": (["run", "dpo", "--fast"], ["--fast", "attune run --help"]),
    "no recipe": (["run"], ["'recipe'", "attune run --help"]),
    "no model": (["score", "x.jsonl"], ["'--model'", "attune score --help"]),
    "option without value": (["doctor", "x.jsonl", "--format"], ["'--format' requires an argument"]),
    "k too small": ([*SAMPLE, "-k", "0"], ["'-k'", "(got '0')", "1"]),
    "k no number": ([*SAMPLE, "-k", "many"], ["'-k'", "integer", "'many'"]),
    "negative temperature": ([*SAMPLE, "--temperature", "-1"], ["'--temperature'", "(got '-1')", "0"]),
    "top_p above 1": ([*SAMPLE, "--top-p", "2"], ["'--top-p'", "(got '2')", "1"]),
    "no tokens": ([*SAMPLE, "--max-tokens", "0"], ["'--max-tokens'", "(got '0')", "1"]),
    "no prompt tokens": (["doctor", "$preferences", "--max-prompt-tokens", "0"], ["'--max-prompt-tokens'", "(got '0')"]),
    "empty shards": (["data", "prepare", "$preferences", "--out", "o.jsonl", "--shard", "0"], ["'--shard'", "(got '0')"]),
}

RECIPE: dict[str, tuple[list[str], list[str]]] = {
    "no such file": (["run", "nowhere.yaml"], ["nowhere.yaml", "no such recipe"]),
    "broken YAML": (["run", "$broken_yaml"], ["broken.yaml:2:", "not YAML"]),
    "no mapping": (["run", "$list_yaml"], ["list.yaml", "a recipe is a mapping", "[1]"]),
    "unknown field": (["run", "$unknown_yaml"], ["unknown.yaml", "objectivess", "no such field"]),
    "unknown field by override": ([*GOOD, "optim.lrr=1"], ["optim.lrr", "no such field", "(got 1)"]),
    "unknown section": ([*GOOD, "optimizer.lr=1"], ["optimizer.lr", "(got '1')", "allowed: name, seed, model, data,"]),
    "override without value": ([*GOOD, "optim.lr"], ["section.key=value", "'optim.lr'"]),
    "override that is no YAML": ([*GOOD, "optim.betas=[1,"], ["not YAML"]),
    "wrong type": ([*GOOD, "optim.lr=fast"], ["optim.lr", "number", "'fast'"]),
    "value out of range": ([*GOOD, "optim.lr=-1"], ["optim.lr", "greater than 0", "(got -1)"]),
    "field not said": ([*DPO, MODEL], ["data.train", "required"]),
    "unknown method": ([*GOOD, "objectives=[{name: dpoo}]"], ["objective", "'dpoo'", "allowed: dpo"]),
    "unknown parameter": ([*GOOD, "objectives.0.params.gamma=1"], ["objectives.dpo.params.gamma", "allowed: beta, label_smoothing"]),
    "parameter out of range": ([*GOOD, "objectives.0.params.beta=-1"], ["objectives.dpo.params.beta", "(got -1)", "allowed: (0, inf)"]),
    "no such index": ([*GOOD, "objectives.3.weight=2"], ["objectives.3.weight", "'3'", "allowed: 0 to 0"]),
    "head that does not fit": ([*GOOD, "objectives=[{name: bradley_terry}]"], ["model.head", "bradley_terry", "(got 'lm')", "allowed: scalar"]),
    "scalar head under dpo": ([*GOOD, "model.head=scalar"], ["model.head", "dpo", "(got 'scalar')", "allowed: lm"]),
    "unknown signal": ([*GOOD, "data.signal=votes"], ["data.signal.name", "'votes'", "all_pairs"]),
    "unknown stage": ([*GOOD, "model.path=stage:sft"], ["stage:sft is not an earlier stage", "none"]),
    "reference without adapter": ([*GOOD, "reference.source=adapter_off"], ["reference", "no adapter"]),
    "unknown type of weights": ([*GOOD, "model.dtype=float16"], ["model.dtype", "'float32', 'bfloat16'", "(got 'float16')"]),
    "no such template": ([*GOOD, "model.chat=nowhere.jinja"], ["model.chat", "'nowhere.jinja'", "allowed: auto, none"]),
}

DATASET: dict[str, tuple[list[str], list[str]]] = {
    "missing": ([*DPO, MODEL, "data.train=nowhere.jsonl"], ["nowhere.jsonl", "no such file"]),
    "empty": ([*DPO, MODEL, "data.train=$empty"], ["empty.jsonl", "no record", "at least one"]),
    "unknown format": ([*DPO, MODEL, "data.train=$unknown"], ["unknown.jsonl", "fields colour", "trl_preference"]),
    "unknown suffix": ([*DPO, MODEL, "data.train=$text"], ["notes.txt", ".jsonl"]),
    "UTF-16": ([*DPO, MODEL, "data.train=$utf16"], ["utf16.jsonl", "UTF-16", "allowed: UTF-8"]),
    "result table": ([*DPO, MODEL, "data.train=$table"], ["table.jsonl", "wildbench_scores is a result table", "numbers without texts"]),
    "no prompts": ([*DPO, MODEL, "data.train=$promptless", "data.eval_share=0"], ["data", "the source holds no prompt (3)", "attune doctor"]),
    "too many bad records": ([*DPO, MODEL, "data.train=$bad"], ["3 of 13 records", "0.05", "bad.jsonl:11:"]),
    "nothing judged": ([*DPO, MODEL, "data.train=$demonstrations"], ["data", "no verdict (", "attune doctor"]),
    "nothing answered": (["run", "sft", *DPO[2:], MODEL, "data.train=$prompts"], ["data", "nothing is left to train on"]),
    "a weight here and none there": (
        [*DPO, MODEL, "data.train=[{path: $preferences, weight: 1}, $demonstrations]"],
        ["data", "every source has a weight or none", "[1.0, None]"],
    ),
    "everything too long": ([*GOOD, "model.max_response_tokens=1"], ["data", "more than 1 tokens"]),
    "doctor: missing": (["doctor", "nowhere.jsonl"], ["nowhere.jsonl", "no such file"]),
    "doctor: empty": (["doctor", "$empty"], ["empty.jsonl", "no record"]),
    "doctor: no JSON": (["doctor", "$not_json"], ["not_json.jsonl:1:", "not JSON", "{oops"]),
    "doctor: unknown format": (["doctor", "$unknown"], ["unknown.jsonl", "fields colour"]),
    "doctor: no such format": (["doctor", "$preferences", "--format", "csv"], ["format", "'csv'", "attune_native"]),
    "doctor: another format": (["doctor", "$preferences", "--format", "alpaca_pairs"], ["preferences.jsonl", "alpaca_pairs", "looks like attune_native"]),
    "sample: missing": (["sample", "nowhere.jsonl", *SAMPLE[2:]], ["nowhere.jsonl", "no such file"]),
    "sample: no prompts": (["sample", "$promptless", *SAMPLE[2:]], ["promptless.jsonl", "no group has a prompt"]),
    "sample: too long": (["sample", "$long", *SAMPLE[2:]], ["the prompt leaves no room", "2048 tokens"]),
    "score: missing": (["score", "nowhere.jsonl", "--model", "$reward"], ["nowhere.jsonl", "no such file"]),
    "score: no responses": (["score", "$prompts", "--model", "$reward"], ["prompts.jsonl", "no response can be scored"]),
    "score: no prompts": (["score", "$promptless", "--model", "$reward"], ["promptless.jsonl", "the source holds no prompt"]),
    "bench: no subset": (
        ["score", "$no_subset", "--bench", "--model", "$reward"],
        ["no_subset.jsonl", "records[1].subset", "prompt, chosen, rejected, subset"],
    ),
    "bench: no text": (["score", "$no_text", "--bench", "--model", "$reward"], ["no_text.jsonl", "records[1].response.content", "(got 7)"]),
    "bench: empty": (["score", "$empty", "--bench", "--model", "$reward"], ["empty.jsonl", "no record"]),
    "streamed and kept": ([*GOOD, "data.streaming=true", "reference.cache=memory"], ["reference.cache=memory", "data.streaming=true takes off"]),
    "streamed pairs": ([*DPO, MODEL, "data.train=$bench", "data.streaming=true"], ["bench.jsonl", "attune data prepare"]),
    "export: missing": (["export", "./nowhere", "--to", "o"], ["'./nowhere'", "a folder, or a hub id"]),
    "export: taken": (["export", "$model", "--to", "$model"], ["something already"]),
    "export: no adapter": (["export", "$model", "--to", "o", "--adapter"], ["--adapter", "no adapter"]),
    "export: no such type": (["export", "$model", "--to", "o", "--dtype", "int8"], ["dtype", "'int8'", "bfloat16"]),
    "export: no configuration": (["export", "$nameless", "--to", "o"], ["model", "config", "nameless"]),
    "prepare: missing": (["data", "prepare", "nowhere.jsonl", "--out", "o.jsonl"], ["nowhere.jsonl", "no such file"]),
    "prepare: too many bad records": (["data", "prepare", "$bad", "--out", "o.jsonl"], ["3 of 13 records", "bad.jsonl:11:"]),
}

WEIGHTS: dict[str, tuple[list[str], list[str]]] = {
    "missing": ([*DPO, DATA, "model.path=./nowhere"], ["model", "'./nowhere'", "a folder, or a hub id"]),
    "a file": ([*DPO, DATA, "model.path=$prompts"], ["model", "prompts.jsonl", "a folder"]),
    "pickle only": ([*DPO, DATA, "model.path=$pickled"], ["pytorch_model.bin", "only safetensors", "pickle can run code"]),
    "empty folder": ([*DPO, DATA, "model.path=$hollow"], ["hollow", "no weights"]),
    "lying header": ([*DPO, DATA, "model.path=$lying"], ["model", "cannot be read", "lying"]),
    "no tokenizer": ([*DPO, DATA, "model.path=$mute"], ["model", "tokenizer", "mute"]),
    "no configuration": ([*DPO, DATA, "model.path=$nameless"], ["model", "config.json", "nameless"]),
    "broken configuration": ([*DPO, DATA, "model.path=$garbled"], ["model", "not a valid JSON", "garbled"]),
    "no stop token": ([*DPO, DATA, "model.path=$endless"], ["tokenizer.eos_token", "no token that ends a response"]),
    "broken template": ([*GOOD, "model.chat=$jinja"], ["chat_template", "refuses", "Expected an expression"]),
    "no adapter": ([*GOOD, "model.adapter.path=./nowhere"], ["./nowhere", "no adapter in safetensors", "adapter_config.json is missing"]),
    "adapter for no layer": ([*GOOD, "model.adapter.targets=[nothing]"], ["adapter.targets", "nothing"]),
    "doctor: missing": (["doctor", "$preferences", "--model", "./nowhere"], ["tokenizer", "'./nowhere'", "a folder or a hub id"]),
    "doctor: no tokenizer": (["doctor", "$preferences", "--model", "$mute"], ["tokenizer", "mute", "a folder or a hub id"]),
    "doctor: no stop token": (["doctor", "$preferences", "--model", "$endless"], ["tokenizer.eos_token", "a tokenizer with an EOS token"]),
    "sample: no stop token": (["sample", "$prompts", "--model", "$endless", *SAMPLE[4:]], ["tokenizer.eos_token", "no token that ends a response"]),
    "sample: empty folder": (["sample", "$prompts", "--model", "$hollow", "--out", "o.jsonl", "--quiet"], ["hollow", "no weights"]),
    "score: language model": ([*SCORE, "$model"], ["model", "no reward model"]),
    "bench: language model": (["score", "$bench", "--bench", "--model", "$model"], ["model", "no reward model"]),
    "score: missing": ([*SCORE, "./nowhere"], ["model", "'./nowhere'"]),
}

PLACE: dict[str, tuple[list[str], list[str]]] = {
    "run into a file": ([*GOOD, "--run-dir", "$text"], ["notes.txt", "cannot write"]),
    "run below a file": ([*GOOD, "--run-dir", "$text/run"], ["notes.txt/run", "cannot write"]),
    "run where one is": ([*GOOD, "--run-dir", "$taken"], ["taken", "holds a run", "--resume"]),
    "resume another recipe": ([*GOOD, "--run-dir", "$taken", "--resume"], ["taken", "another recipe", "'0123456789abcdef'"]),
    "demo where a run is": (["demo", "--run-dir", "$taken"], ["taken", "holds a run", "--run-dir"]),
    "report of no run": (["report", "$hollow"], ["hollow", "no run", "provenance.json"]),
    "sample: suffix": ([*SAMPLE, "--out", "o.txt"], ["o.txt", ".jsonl, .jsonl.gz, .parquet"]),
    "sample: below a file": ([*SAMPLE, "--out", "$text/o.jsonl"], ["notes.txt/o.jsonl", "cannot be written"]),
    "score: suffix": ([*SCORE, "$reward", "--out", "o.csv"], ["o.csv", ".jsonl, .jsonl.gz, .parquet"]),
    "world into a file": (["world", "$text", "--no-train", "--quiet"], ["notes.txt", "cannot be written"]),
    "prepare: suffix": (["data", "prepare", "$preferences", "--out", "o.csv"], ["o.csv", ".jsonl, .jsonl.gz, .parquet"]),
    "prepare: below a file": (["data", "prepare", "$preferences", "--out", "$text/o.jsonl"], ["notes.txt/o.jsonl", "cannot be written"]),
    "import: below a file": (["import", "$trl_yaml", "--method", "dpo", "--out", "$text/o.yaml"], ["notes.txt/o.yaml", "cannot write"]),
}

OTHER: dict[str, tuple[list[str], list[str]]] = {
    "no such method": (["methods", "dpoo"], ["'dpoo'", "allowed: dpo"]),
    "import: missing": (["import", "nowhere.yaml"], ["nowhere.yaml", "no such configuration"]),
    "import: broken YAML": (["import", "$broken_yaml"], ["broken.yaml:2:", "not YAML"]),
    "import: no mapping": (["import", "$list_yaml"], ["list.yaml", "mapping", "[1]"]),
    "import: of nobody": (["import", "$unknown_yaml"], ["unknown.yaml", "not recognised", "TRL", "LLaMA-Factory"]),
    "import: of which trainer": (["import", "$trl_yaml"], ["trl.yaml", "dpo, cpo, orpo, kto, reward, sft"]),
    "import: no such method": (["import", "$trl_yaml", "--method", "ppo"], ["method", "'ppo'", "dpo, cpo, orpo, kto, reward, sft"]),
}

CASES = {
    f"{title}: {name}": case
    for title, cases in {"command": ITSELF, "recipe": RECIPE, "data": DATASET, "model": WEIGHTS, "place": PLACE, "other": OTHER}.items()
    for name, case in cases.items()
}
