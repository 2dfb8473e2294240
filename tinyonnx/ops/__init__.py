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
integer      MatMulInteger, QLinearConv …       recurrent    RNN, GRU, LSTM
quantize     QuantizeLinear, DequantizeLinear …
random       random numbers                     text         strings, TfIdfVectorizer
einsum       Einsum                             loss         NegativeLogLikelihoodLoss …
training     Adagrad, Adam, Momentum            gradient     Gradient
attention    Attention, RotaryEmbedding …       linear_attention  LinearAttention …
depth_space  DepthToSpace, SpaceToDepth
ml           the domain ai.onnx.ml: features, linear models, maps, support vector machines, trees
microsoft    ONNX Runtime's own domain: attention, blocks, fused, matmul, norm, quantized, recurrent
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
