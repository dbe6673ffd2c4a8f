"""The bridges that `bridge` may name, one line each; a class of one's own is named as MODULE:CLASS."""

from ray_bridge.config.registry import Registry

BRIDGES = Registry("bridge", interface=("from_spec", "forward", "moments", "fit", "parameters", "buffers"))
BRIDGES.register("dit", "ray_bridge.bridges.dit:DiTBridge", "diffusion transformer on one pooled source vector")
BRIDGES.register("resampler", "ray_bridge.bridges.resampler:Resampler", "learned queries, no diffusion")
BRIDGES.register("dit_xattn", "ray_bridge.bridges.dit:CrossAttendingDiT", "dit that also cross-attends to every token")
BRIDGES.register("linear", "ray_bridge.bridges.linear:LinearBridge", "rival: a linear map, fitted in closed form")
BRIDGES.register("c2c", "ray_bridge.bridges.c2c:CacheReader", "rival: the source's cache, fused into the target's")
BRIDGES.register("constant", "ray_bridge.bridges.constant:ConstantPrompt", "control: learned tokens without a source")
