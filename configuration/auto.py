"""Registration of configurations with transformers' `AutoConfig`, by importing this module, so that no folder's own code is
run where this package is."""

from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from .decoder import TrefoilDecoderConfig
from .encoder import TrefoilEncoderConfig
from .encoder_decoder import TrefoilEncoderDecoderConfig
from .recurrent import TrefoilRecurrentConfig
from .vision_encoder_decoder import TrefoilVisionEncoderDecoderConfig

FAMILIES = (
    TrefoilEncoderConfig,
    TrefoilDecoderConfig,
    TrefoilEncoderDecoderConfig,
    TrefoilRecurrentConfig,
    TrefoilVisionEncoderDecoderConfig,
)

# what `config.json` of a published folder says of the code beside it
CODE_KEYS = ("auto_map", "custom_pipelines", "trefoil_version")


def use_installed_code(config_class: type[PreTrainedConfig]) -> None:
    """Makes a registered configuration class forget the code that a published folder brings along.

    The installed classes are the ones that run. If the configuration still pointed at the folder's code, `pipeline()`
    would ask to trust it, and saving the model again would write a `config.json` that names files that are not there.
    """
    from_dict = config_class.from_dict.__func__

    def from_dict_without_code(cls: type[PreTrainedConfig], config_dict: dict[str, Any], **kwargs: Any) -> Any:
        kept = {key: value for key, value in config_dict.items() if key not in CODE_KEYS}
        return from_dict(cls, kept, **kwargs)

    config_class.from_dict = classmethod(from_dict_without_code)


for family in FAMILIES:
    use_installed_code(family)
    AutoConfig.register(family.model_type, family, exist_ok=True)
