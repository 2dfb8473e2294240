"""The operators by family; importing this package registers all of them.

math         arithmetic, comparison, logic      activation   activations, softmax family
reduce       reductions, ArgMax and ArgMin      norm         normalisations, Dropout
conv         Conv, ConvTranspose                pool         windows and global pooling
matmul       MatMul, Gemm                       resize       Resize, Upsample
shape        Reshape … Expand, Shape, Size      depth_space  DepthToSpace, SpaceToDepth
tensor       Constant, Concat, Split, Slice …   pad          Pad
cast         Cast, CastLike                     index        Gather, Scatter, OneHot, TopK …
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
fused        what the passes create
microsoft_*  ONNX Runtime's own: attention, fused, matmul, norm, quantized, recurrent
"""

from tinyonnx.ops import (  # noqa: F401
    activation,
    attention,
    cast,
    control,
    conv,
    depth_space,
    detection,
    einsum,
    fused,
    gradient,
    index,
    integer,
    linear_attention,
    loss,
    math,
    matmul,
    microsoft_attention,
    microsoft_fused,
    microsoft_matmul,
    microsoft_norm,
    microsoft_quantized,
    microsoft_recurrent,
    ml_features,
    ml_linear,
    ml_maps,
    ml_svm,
    ml_trees,
    norm,
    pad,
    pool,
    quantize,
    random,
    recurrent,
    reduce,
    resize,
    sampling,
    sequence,
    shape,
    signal,
    tensor,
    text,
    training,
    vision,
)
