"""The tasks that `task` may name, one line each; a class of one's own is named as MODULE:CLASS."""

from ray_bridge.config.registry import Registry

TASKS = Registry(
    "task",
    interface=(
        *("from_spec", "name", "instruction", "stops"),
        *("train", "test", "header", "prompt", "continuation", "answer_text", "continuations", "score"),
    ),
)
TASKS.register("synthetic", "ray_bridge.tasks.synthetic.task:SyntheticTask", "word problems with foreign number words")
TASKS.register("gsm8k", "ray_bridge.tasks.gsm8k:GSM8K", "grade-school problems (Cobbe et al. 2021)")
TASKS.register("math", "ray_bridge.tasks.competition_math:CompetitionMath", "MATH (Hendrycks et al. 2021)")
TASKS.register("hotpotqa", "ray_bridge.tasks.hotpotqa:HotpotQA", "multi-hop questions with context (Yang et al. 2018)")
TASKS.register("arc_challenge", "ray_bridge.tasks.mapped:MappedTask", "grade-school science (Clark et al. 2018)")
TASKS.register("openbookqa", "ray_bridge.tasks.mapped:MappedTask", "elementary science (Mihaylov et al. 2018)")
TASKS.register("mmlu_redux", "ray_bridge.tasks.mapped:MappedTask", "57 subjects, checked by hand (Gema et al. 2024)")
TASKS.register("ceval", "ray_bridge.tasks.mapped:MappedTask", "52 subjects in Chinese (Huang et al. 2023)")
TASKS.register("mapped", "ray_bridge.tasks.mapped:MappedTask", "any data set, by a mapping: --task FILE.toml")
