using System.Buffers.Binary;
using Nibble.IO;

namespace Nibble.Tokenization;

/// <summary>Reads protocol buffer fields from untrusted bytes; every length is checked before it is used.</summary>
internal ref struct ProtobufReader(ReadOnlySpan<byte> bytes, string source)
{
    private readonly ReadOnlySpan<byte> _bytes = bytes;
    private readonly string _source = source;
    private int _at;
    private int _wire;

    /// <summary>Goes to the next field; what is left of the last one must have been read or skipped.</summary>
    public bool Next(out int field)
    {
        if (_at >= _bytes.Length)
        {
            field = 0;
            return false;
        }

        ulong key = Varint();
        field = (int)Math.Min(key >> 3, int.MaxValue);
        _wire = (int)(key & 7);
        if (field == 0)
        {
            Refuse("field number 0");
        }

        return true;
    }

    /// <summary>The current field as a whole number.</summary>
    public ulong Number()
    {
        Expect(0);
        return Varint();
    }

    /// <summary>The current field as true or false.</summary>
    public bool Flag() => Number() != 0;

    /// <summary>The current field as a 32-bit real number.</summary>
    public float Real()
    {
        Expect(5);
        return BinaryPrimitives.ReadSingleLittleEndian(Take(4));
    }

    /// <summary>The current field as bytes: a text or a nested message.</summary>
    public ReadOnlySpan<byte> Bytes()
    {
        Expect(2);
        ulong length = Varint();
        if (length > (ulong)(_bytes.Length - _at))
        {
            Refuse($"a length of {length:N0} where {_bytes.Length - _at:N0} bytes are left");
        }

        return Take((int)length);
    }

    /// <summary>Passes over the current field.</summary>
    public void Skip()
    {
        switch (_wire)
        {
            case 0:
                Varint();
                break;
            case 1:
                Take(8);
                break;
            case 2:
                Bytes();
                break;
            case 5:
                Take(4);
                break;
            default:
                Refuse($"wire type {_wire}");
                break;
        }
    }

    private ulong Varint()
    {
        ulong value = 0;
        for (int shift = 0; shift < 70; shift += 7)
        {
            byte part = Take(1)[0];
            if (shift == 63 && part > 1)
            {
                break;
            }

            value |= (ulong)(part & 0x7F) << shift;
            if (part < 0x80)
            {
                return value;
            }
        }

        Refuse("a number of more than 64 bits");
        return 0;
    }

    private ReadOnlySpan<byte> Take(int length)
    {
        if (length > _bytes.Length - _at)
        {
            Refuse("the end of the data in the middle of a field");
        }

        ReadOnlySpan<byte> taken = _bytes.Slice(_at, length);
        _at += length;
        return taken;
    }

    private readonly void Expect(int wire)
    {
        if (_wire != wire)
        {
            Refuse($"wire type {_wire} where {wire} was expected");
        }
    }

    private readonly void Refuse(string found) =>
        Throw.BadInput($"{_source} is damaged", $"byte {_at:N0} of its message: {found}", "download the file again");
}
