"""Where public data sets come from: path, SHA-256 and origin (repository/commit/path on GitHub) of every file.

A file without an origin was converted from the one that is published; see `public.py` for where to put it.
"""

from dataclasses import dataclass

__all__ = ["SOURCES", "File", "Source"]


@dataclass(frozen=True)
class File:
    """A file by its path below the data folder. `origin` is owner/repository/commit/path on GitHub."""

    path: str
    sha256: str
    origin: str | None = None


class Source:
    """A data set: what it is, under which licence, and its files."""

    def __init__(self, note: str, licence: str, *files: File) -> None:
        self.note, self.licence, self.files = note, licence, files


SOURCES = {
    "ett-h1": Source(
        "transformer temperature and six loads, hourly, two years",
        "CC BY-ND 4.0",
        File(
            "ett/ETTh1.csv",
            "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066",
            "zhouhaoyi/ETDataset/1d16c8f4f943005d613b5bc962e9eeb06058cf07/ETT-small/ETTh1.csv",
        ),
    ),
    "exchange-rate": Source(
        "daily exchange rates of eight countries, 1990 to 2016",
        "none stated",
        File(
            "exchange_rate/exchange_rate.txt.gz",
            "6a4fbb561dcdee43f071a83badbeec9223a335552278348656738b556f1c2e9d",
            "laiguokun/multivariate-time-series-data/7f402f185cc2435b5e66aed13a3b560ed142e023/exchange_rate/exchange_rate.txt.gz",
        ),
    ),
    "illness": Source(
        "weekly influenza-like illness in the US, 2002 to 2020",
        "US public domain (CDC)",
        File(
            "illness/national_illness.csv",
            "b390a69589dd8e0a41ac816ff90843f1b0007d13c90885bed62efe0278484fb2",
            "naymatkhaana/llm4cast/cada698e9727e5077e2361e8729a0752fd4d420f/dataset/illness/national_illness.csv",
        ),
    ),
    "los-loop": Source(
        "traffic speeds (mph) at 207 places in Los Angeles, one week, every five minutes",
        "none stated",
        File(
            "los_loop/los_speed.csv",
            "7b732d86ae32b2930595becba28aff39dacbfb2197e250fc0332e1744ce2cbf4",
            "lehaifeng/T-GCN/219a2346f5bf68d54d91a948e7a41a08f9edc46b/data/los_speed.csv",
        ),
    ),
    "ml-100k": Source(
        "MovieLens 100K: films in the order in which 943 people rated them",
        "GroupLens: for research, no redistribution, no commercial use",
        File(
            "ml-100k/ml-100k.inter",
            "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
            "RUCAIBox/RecBole/7b02be5ec80a88310f2d04a27a82adfcbb5dc211/recbole/dataset_example/ml-100k/ml-100k.inter",
        ),
    ),
    "ml-1m": Source(
        "MovieLens 1M: films with five ratings or more, in the order in which 6040 people rated them",
        "GroupLens: for research, no redistribution, no commercial use",
        File("ml-1m/ml-1m_sasrec.npz", "5585710e9508ac525e8f9e2345a7b22a5b4e868a85ed20246caf28d87b49ca92"),
    ),
    "games": Source(
        "Amazon Video Games, as SASRec cut it",
        "Apache-2.0 on the repository",
        File(
            "games/Video.txt",
            "b7376fe24430743f411dc7f567285657b2adb3f74361cc7ba0aee94f3024b651",
            "kang205/SASRec/e3738967fddab206d6eeb4fda433e7a7034dd8b1/data/Video.txt",
        ),
    ),
    "beauty": Source(
        "Amazon Beauty, five events or more",
        "none stated",
        File(
            "amazon_5core/Beauty.txt",
            "226cce9c3105299ca0db9615d7d3fb32b3175e90da43100ae352599f0f0107b8",
            "aHuiWang/CIKM2020-S3Rec/49a890dcb516c9ed3126564495234ea74d5cd566/data/Beauty.txt",
        ),
    ),
    "toys": Source(
        "Amazon Toys and Games, five events or more",
        "none stated",
        File(
            "amazon_5core/Toys_and_Games.txt",
            "176c680c688d497598c4a89a03b402c0fe78d795e5db335c2e78dd5f2d778a3f",
            "aHuiWang/CIKM2020-S3Rec/49a890dcb516c9ed3126564495234ea74d5cd566/data/Toys_and_Games.txt",
        ),
    ),
    "yelp": Source(
        "Yelp, five events or more",
        "none stated",
        File(
            "amazon_5core/Yelp.txt",
            "724b219106b81dd2349027da997334ddb6da9fe2f152ad6e0d97a93170f7caed",
            "aHuiWang/CIKM2020-S3Rec/49a890dcb516c9ed3126564495234ea74d5cd566/data/Yelp.txt",
        ),
    ),
    "lastfm": Source(
        "LastFM artists, five events or more",
        "none stated",
        File(
            "amazon_5core/LastFM.txt",
            "9ded486adb5b0fe9dc761950afa0a9a05e93ff018992e0c52bf11afec529f802",
            "aHuiWang/CIKM2020-S3Rec/49a890dcb516c9ed3126564495234ea74d5cd566/data/LastFM.txt",
        ),
    ),
    "stackoverflow": Source(
        "badges of 6633 Stack Overflow users, split 1, without times",
        "none stated",
        File(
            "events/stackoverflow_types_split1.npz", "f2819195554eb394ade0d6b9a4bca823b5830e13bf37c44da50437ad74e60608"
        ),
    ),
    "stackoverflow-timed": Source(
        "badges and their times of 4468 Stack Overflow users, split 1",
        "none stated",
        File("events/stackoverflow_timed.npz", "72d1ebf6741954152c494c98d318b2c9c60986e78ca93a7eede1a72b8d596914"),
    ),
    "mimic2": Source(
        "diagnoses of 650 patients and the times of their visits, split 1 of 5",
        "none stated",
        File("events/mimic2_5splits.npz", "93c1d7e3bbcd142d3b89fa39915c2dfecfb9a6856e8d1d4125706088689f5f40"),
    ),
    "jsb": Source(
        "382 chorales of J. S. Bach, four voices at sixteenth notes",
        "none stated",
        File(
            "jsb_chorales/Jsb16thSeparated.json",
            "79294cc374f9252e95ef4b703161524c1c53dc1f712c236f00f1c1f5d54af5a7",
            "czhuang/JSB-Chorales-dataset/9a7f733ddb4ed91f48da64ac7f0f621c34aadd4d/Jsb16thSeparated.json",
        ),
    ),
    "eth-ucy": Source(
        "pedestrians seen from above in eight recordings, a position every 0.4 s",
        "MIT on the repository",
        File(
            "eth_ucy/all/biwi_eth.txt",
            "cf8d3fd342a15f409ebc2a1fc76b91a0f06390bd21f1e11410f3859331ab082b",
            "StanfordASL/Trajectron-plus-plus/1031c7bd1a444273af378c1ec1dcca907ba59830/experiments/pedestrians/raw/raw/all_data/biwi_eth.txt",
        ),
        File(
            "eth_ucy/all/biwi_hotel.txt",
            "9caa771bb9153d6b809dd0916b6f86761b641e6bbb15e766c1de3133fbbb7fcf",
            "StanfordASL/Trajectron-plus-plus/1031c7bd1a444273af378c1ec1dcca907ba59830/experiments/pedestrians/raw/raw/all_data/biwi_hotel.txt",
        ),
        File(
            "eth_ucy/all/crowds_zara01.txt",
            "1147a1962a09abfb86f28c6cddcac862e095a0cf129b3016385b69eacdd09d85",
            "StanfordASL/Trajectron-plus-plus/1031c7bd1a444273af378c1ec1dcca907ba59830/experiments/pedestrians/raw/raw/all_data/crowds_zara01.txt",
        ),
        File(
            "eth_ucy/all/crowds_zara02.txt",
            "8a649d0f8c9ae75c87c4d23a85f892786b0aa30266e996c7be03e69dafff22ff",
            "StanfordASL/Trajectron-plus-plus/1031c7bd1a444273af378c1ec1dcca907ba59830/experiments/pedestrians/raw/raw/all_data/crowds_zara02.txt",
        ),
        File(
            "eth_ucy/all/crowds_zara03.txt",
            "16b3e899932c4baacd07f45013d5b921f90bc5a29eb2b0fe42f4d7c904ac3108",
            "StanfordASL/Trajectron-plus-plus/1031c7bd1a444273af378c1ec1dcca907ba59830/experiments/pedestrians/raw/raw/all_data/crowds_zara03.txt",
        ),
        File(
            "eth_ucy/all/students001.txt",
            "a6d87f278d94136fe39b8be91555487a29ac77259ae403b9dba2d5c18caf7b5b",
            "StanfordASL/Trajectron-plus-plus/1031c7bd1a444273af378c1ec1dcca907ba59830/experiments/pedestrians/raw/raw/all_data/students001.txt",
        ),
        File(
            "eth_ucy/all/students003.txt",
            "e25798b660634330aa89f8bb259425de720e84d0873902726c1d1f4ccff21d6c",
            "StanfordASL/Trajectron-plus-plus/1031c7bd1a444273af378c1ec1dcca907ba59830/experiments/pedestrians/raw/raw/all_data/students003.txt",
        ),
        File(
            "eth_ucy/all/uni_examples.txt",
            "61f432c0ab3070ed0ef150fbeabcd7baf839cab5495a46e6105bd747f0a092a7",
            "StanfordASL/Trajectron-plus-plus/1031c7bd1a444273af378c1ec1dcca907ba59830/experiments/pedestrians/raw/raw/all_data/uni_examples.txt",
        ),
        File(
            "eth_ucy/train/biwi_eth_train.txt",
            "7905d1337f8466c3ebcd80e8264158209370e939774a371d215491256128407e",
            "StanfordASL/Trajectron-plus-plus/1031c7bd1a444273af378c1ec1dcca907ba59830/experiments/pedestrians/raw/raw/train/biwi_eth_train.txt",
        ),
        File(
            "eth_ucy/train/biwi_hotel_train.txt",
            "f3f485043273e3d972efd73770df0021ec7d3d5135f60d2e2ca5809f68d6f104",
            "StanfordASL/Trajectron-plus-plus/1031c7bd1a444273af378c1ec1dcca907ba59830/experiments/pedestrians/raw/raw/train/biwi_hotel_train.txt",
        ),
        File(
            "eth_ucy/train/crowds_zara01_train.txt",
            "5b2ff1a334f4b3e8595e0ee898874b1795561db7bde97e90cbc4a1382c8c3d56",
            "StanfordASL/Trajectron-plus-plus/1031c7bd1a444273af378c1ec1dcca907ba59830/experiments/pedestrians/raw/raw/train/crowds_zara01_train.txt",
        ),
        File(
            "eth_ucy/train/crowds_zara02_train.txt",
            "9fd606341135d7d211c3af259c9eb2c25e4c7035efc43d3007ceeef6f954b247",
            "StanfordASL/Trajectron-plus-plus/1031c7bd1a444273af378c1ec1dcca907ba59830/experiments/pedestrians/raw/raw/train/crowds_zara02_train.txt",
        ),
        File(
            "eth_ucy/train/crowds_zara03_train.txt",
            "d38a0a6cd1e24adadbb3b15cac97b747e5c6ace2c59d457d805f38a4d91d5a03",
            "StanfordASL/Trajectron-plus-plus/1031c7bd1a444273af378c1ec1dcca907ba59830/experiments/pedestrians/raw/raw/train/crowds_zara03_train.txt",
        ),
        File(
            "eth_ucy/train/students001_train.txt",
            "f41a0a63301e1c15104205c4a1540db477ddc3330ee2801a976d7b9fc238a63e",
            "StanfordASL/Trajectron-plus-plus/1031c7bd1a444273af378c1ec1dcca907ba59830/experiments/pedestrians/raw/raw/train/students001_train.txt",
        ),
        File(
            "eth_ucy/train/students003_train.txt",
            "85fe6324e9a0b94acb21617eb0331f543fe5ebf0caee1e253794bca554f35daf",
            "StanfordASL/Trajectron-plus-plus/1031c7bd1a444273af378c1ec1dcca907ba59830/experiments/pedestrians/raw/raw/train/students003_train.txt",
        ),
        File(
            "eth_ucy/train/uni_examples_train.txt",
            "06866bea5c2f589094473371e9fb6b653c7af95e5f748434bc1024544c5e1c7a",
            "StanfordASL/Trajectron-plus-plus/1031c7bd1a444273af378c1ec1dcca907ba59830/experiments/pedestrians/raw/raw/train/uni_examples_train.txt",
        ),
        File(
            "eth_ucy/val/biwi_eth_val.txt",
            "ed19f8ee52e024788658d70060c1452b991aa506b78ea649c74f79e075ad20b9",
            "StanfordASL/Trajectron-plus-plus/1031c7bd1a444273af378c1ec1dcca907ba59830/experiments/pedestrians/raw/raw/val/biwi_eth_val.txt",
        ),
        File(
            "eth_ucy/val/biwi_hotel_val.txt",
            "5c6026c5c6feb81295187e2e063d86197344428811ac2ae98a45bdfb5dfa79ed",
            "StanfordASL/Trajectron-plus-plus/1031c7bd1a444273af378c1ec1dcca907ba59830/experiments/pedestrians/raw/raw/val/biwi_hotel_val.txt",
        ),
        File(
            "eth_ucy/val/crowds_zara01_val.txt",
            "d5212e4e3289aa44365e5ce34a476ef2a4208c89bd6a29204ece097c7f33c157",
            "StanfordASL/Trajectron-plus-plus/1031c7bd1a444273af378c1ec1dcca907ba59830/experiments/pedestrians/raw/raw/val/crowds_zara01_val.txt",
        ),
        File(
            "eth_ucy/val/crowds_zara02_val.txt",
            "361949e5655814680e1185bdd23344932f7b6ccc0d7120c34b523495d0fc69f8",
            "StanfordASL/Trajectron-plus-plus/1031c7bd1a444273af378c1ec1dcca907ba59830/experiments/pedestrians/raw/raw/val/crowds_zara02_val.txt",
        ),
        File(
            "eth_ucy/val/crowds_zara03_val.txt",
            "60d464e21fd3851fab146ec3b35d0db4155b3c057f4b46050336eac59314f0f5",
            "StanfordASL/Trajectron-plus-plus/1031c7bd1a444273af378c1ec1dcca907ba59830/experiments/pedestrians/raw/raw/val/crowds_zara03_val.txt",
        ),
        File(
            "eth_ucy/val/students001_val.txt",
            "dc8f3147820e80642903041b017292eb03ea5df81ffd2974b47a725d8ffeb394",
            "StanfordASL/Trajectron-plus-plus/1031c7bd1a444273af378c1ec1dcca907ba59830/experiments/pedestrians/raw/raw/val/students001_val.txt",
        ),
        File(
            "eth_ucy/val/students003_val.txt",
            "b7aa6dcedba0e9036272dc363e2a25e6bb80d7485d75dcb3fff918ce01b10e24",
            "StanfordASL/Trajectron-plus-plus/1031c7bd1a444273af378c1ec1dcca907ba59830/experiments/pedestrians/raw/raw/val/students003_val.txt",
        ),
        File(
            "eth_ucy/val/uni_examples_val.txt",
            "436dfa865ffab37957e928e227a1b6cc836ab0e6b7652abbf5d06cdf5638dee4",
            "StanfordASL/Trajectron-plus-plus/1031c7bd1a444273af378c1ec1dcca907ba59830/experiments/pedestrians/raw/raw/val/uni_examples_val.txt",
        ),
    ),
    "tinyshakespeare": Source(
        "a million letters of Shakespeare's plays",
        "public domain",
        File(
            "tinyshakespeare/input.txt",
            "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
            "karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare/input.txt",
        ),
    ),
    "fsdd": Source(
        "3000 spoken digits of six speakers at 8 kHz",
        "CC BY-SA 4.0",
        File("fsdd/fsdd_8khz_int16.npz", "cfbdade2f4167e50e2784dc968d3d6f35f22fb77eb2566463c89b0bdfea244e5"),
    ),
}
