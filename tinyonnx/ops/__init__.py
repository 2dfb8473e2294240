"""The operators by family.

Importing this package registers those that most models are made of:

math         arithmetic, comparison, logic      activation   activations, softmax family
reduce       reductions, ArgMax and ArgMin      norm         normalisations, Dropout
conv         Conv, ConvTranspose                pool         windows and global pooling
matmul       MatMul, Gemm                       resize       Resize, Upsample
shape        Reshape … Expand, Shape, Size      index        Gather, Scatter, OneHot, TopK …
tensor       Constant, Concat, Split, Slice …   pad          Pad
cast         Cast, CastLike                     fused, gated, stem  what the passes create

The registry imports `others` when it is asked for any other operator:

control      If, Loop, Scan                     sequence     sequences and optionals
sampling     GridSample, DeformConv …          detection    RoiAlign, NonMaxSuppression …
vision       Col2Im, MaxUnpool, ImageDecoder …  signal       DFT, STFT, windows, mel scale
ml_features  Scaler, Imputer, OneHotEncoder …   ml_maps      LabelEncoder, ZipMap, CastMap …
ml_linear    linear models                      ml_svm       support vector machines
ml_trees     tree ensembles                     quantize     QuantizeLinear, DequantizeLinear …
integer      MatMulInteger, QLinearConv …       recurrent    RNN, GRU, LSTM
random       random numbers                     text         strings, TfIdfVectorizer
einsum       Einsum                             loss         NegativeLogLikelihoodLoss …
training     Adagrad, Adam, Momentum            gradient     Gradient
attention    Attention, RotaryEmbedding …       linear_attention  LinearAttention …
depth_space  DepthToSpace, SpaceToDepth
microsoft_*  ONNX Runtime's own: attention, blocks, fused, matmul, norm, quantized, recurrent
"""

from tinyonnx.ops import (  # noqa: F401
    activation,
    cast,
    conv,
    fused,
    gated,
    index,
    math,
    matmul,
    norm,
    pad,
    pool,
    reduce,
    resize,
    shape,
    stem,
    tensor,
)
